"""A folder that is a LoRA adapter stands for its base with the adapter merged, and both are in its digest."""

import json
import shutil
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import many, save_model

from curate.base.errors import InputError
from curate.base.light import silence
from curate.models.load import load_model
from curate.models.rendering import load_tokenizer
from curate.models.resolve import UNBOUNDED, resolve, write_reference
from curate.project.params import ModelParams, ScoreParams
from curate.scoring.score import score


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """(base, adapter), as peft saves one."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    top = tmp_path_factory.mktemp("adapters")
    base = save_model(top / "base")
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    net = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    net.peft_config["default"].base_model_name_or_path = str(base)
    net.save_pretrained(top / "adapter")
    return base, top / "adapter"


def changed(adapter, to, **more):
    shutil.copytree(adapter, to)
    config = json.loads((to / "adapter_config.json").read_text()) | more
    (to / "adapter_config.json").write_text(json.dumps(config))
    return resolve(to)


def test_an_adapter_is_scored_as_the_merged_model_is(folders, tmp_path):
    base, adapter = folders
    model = resolve(adapter)
    assert (model.path, model.adapter, model.name) == (base, adapter, str(adapter))
    merged = load_model(model, "float32")
    assert type(merged).__name__ == "Qwen2ForCausalLM"
    merged.save_pretrained(tmp_path / "merged")
    load_tokenizer(model).save_pretrained(tmp_path / "merged")
    options = ScoreParams(engine="transformers")
    pairs = many(6)
    found, expected, plain = (
        score(pairs, one, options, tmp_path / "store").scores["ref_chosen_logps"].to_numpy()
        for one in (model, resolve(tmp_path / "merged"), resolve(base))
    )
    assert found == pytest.approx(expected, abs=1e-4)
    assert found != pytest.approx(plain, abs=1e-2)


def test_base_weights_and_scaling_are_in_the_digest(folders, tmp_path):
    base, adapter = folders
    digest = resolve(adapter).digest
    same = changed(adapter, tmp_path / "same")
    stronger = changed(adapter, tmp_path / "stronger", lora_alpha=32)
    other = changed(adapter, tmp_path / "other", base_model_name_or_path=str(save_model(tmp_path / "base", seed=1)))
    assert len({digest, resolve(base).digest, stronger.digest, other.digest}) == 4
    assert stronger.digest != digest and same.folder != adapter


@pytest.mark.parametrize(
    "renamed",
    [
        lambda name: name.replace("base_model.model.model.", "base_model.model.model.language_model."),  # all elsewhere
        lambda name: name.replace("layers.0.self_attn.q_proj", "layers.9.self_attn.q_proj"),  # a part
    ],
)
def test_an_adapter_whose_weights_have_no_place_in_the_base_is_refused(folders, tmp_path, renamed):
    model = changed(folders[1], tmp_path / "a")
    weights = load_file(folders[1] / "adapter_model.safetensors")
    save_file({renamed(name): weight for name, weight in weights.items()}, model.adapter / "adapter_model.safetensors")
    with pytest.raises(InputError, match="would be left out") as caught:
        load_model(model, "float32")
    assert "q_proj.lora_A" in caught.value.details["field"]


def test_a_learned_prompt_is_refused(folders, tmp_path):
    from peft import PromptTuningConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    net = get_peft_model(AutoModelForCausalLM.from_pretrained(folders[0]), config)
    net.save_pretrained(tmp_path / "prompt")
    with pytest.raises(InputError, match="learned prompt") as caught:
        load_model(resolve(tmp_path / "prompt"), "float32")
    assert caught.value.details["found"] == "PROMPT_TUNING"


def test_an_adapter_beside_a_whole_model_is_refused(folders, tmp_path):
    base, adapter = folders
    shutil.copytree(base, tmp_path / "both")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(adapter / name, tmp_path / "both" / name)
    with pytest.raises(InputError, match="a whole model and an adapter in one folder"):
        resolve(tmp_path / "both")


@pytest.mark.parametrize(
    ("more", "says"),
    [({"base_model_name_or_path": None}, "what it adapts"), ({"base_model_name_or_path": "./gone"}, "no such model")],
)
def test_an_adapter_without_its_base(folders, tmp_path, more, says):
    with pytest.raises(InputError, match=says):
        changed(folders[1], tmp_path / "a", **more)


def test_an_adapter_of_an_adapter_is_refused(folders, tmp_path):
    with pytest.raises(InputError, match="base is an adapter"):
        changed(folders[1], tmp_path / "a", base_model_name_or_path=str(folders[1]))


def test_a_reference_may_be_an_adapter(folders, tmp_path):
    written = write_reference(tmp_path / "reference", ModelParams(name=str(folders[1])))
    found = resolve(tmp_path / "reference")
    assert found.adapter == folders[1].resolve() and found.digest == written.digest


def test_a_tokenizer_beside_the_adapter_is_the_one_used(folders, tmp_path):
    adapter = folders[1]
    own = changed(adapter, tmp_path / "own")
    tokenizer = load_tokenizer(own)
    tokenizer.chat_template = "own {{ messages[0]['content'] }}"
    tokenizer.save_pretrained(own.adapter)
    assert load_tokenizer(resolve(own.adapter)).chat_template.startswith("own")
    assert not load_tokenizer(resolve(adapter)).chat_template.startswith("own")


@pytest.mark.parametrize(
    ("config", "limit", "context"),
    [
        ({"seq_length": 77}, 100, 77),
        ({"max_position_embeddings": None, "n_positions": 55}, None, 55),
        ({}, 100, 100),
        ({}, 1e30, UNBOUNDED),
        ({}, None, UNBOUNDED),
    ],
)
def test_the_context_of_a_model_whose_config_does_not_name_it_so(config, limit, context, tmp_path):
    folder = save_model(tmp_path / "model")
    described = json.loads((folder / "config.json").read_text())
    del described["max_position_embeddings"]
    (folder / "config.json").write_text(json.dumps(described | config))
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"model_max_length": limit}
    (folder / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))
    model = resolve(folder)
    assert model.context == context
    assert model.record()["context"] == (None if context == UNBOUNDED else context)
    if context == UNBOUNDED:
        with pytest.raises(InputError, match="how long a sequence may be") as caught:
            score(many(2), model, ScoreParams(engine="transformers"), tmp_path / "store")
        assert "--max-length" in caught.value.details["remedy"]
        assert score(many(2), model, ScoreParams(engine="transformers", max_length=200), tmp_path / "store")


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_an_adapter_of_one_end_does_not_reach_the_other_by_a_weight_that_both_share(folders, tmp_path, target):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(2)
    config = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", target], init_lora_weights=False)
    net = get_peft_model(AutoModelForCausalLM.from_pretrained(folders[0], dtype=torch.float32), config).eval()
    net.peft_config["default"].base_model_name_or_path = str(folders[0])
    net.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")  # peft's, which go to the screen
        silence()
        merged, expected = load_model(resolve(tmp_path / "adapter"), "float32").eval(), net(ids).logits
        assert torch.allclose(merged(ids).logits, expected, atol=1e-3)
        merged.save_pretrained(tmp_path / "merged")
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
        assert torch.allclose(again(ids).logits, expected, atol=1e-3)
