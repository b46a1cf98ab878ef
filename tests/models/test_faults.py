"""A broken model folder is one error that names it, whatever the libraries raise."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file
from tiny import save_model

from curate.base.errors import InputError
from curate.models.load import load_model
from curate.models.rendering import load_tokenizer
from curate.models.resolve import resolve


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


def test_a_model_whose_tokens_see_what_follows_is_refused(tmp_path):
    from tiny import byte_tokenizer, small
    from transformers import AutoModelForCausalLM

    for decoder in (True, False):
        AutoModelForCausalLM.from_config(small("bert", is_decoder=decoder)).save_pretrained(tmp_path)
        byte_tokenizer().save_pretrained(tmp_path)
        if decoder:
            load_model(resolve(tmp_path), "bfloat16")
            continue
        for dtype in ("float32", "bfloat16"):
            with pytest.raises(InputError, match="not a causal language model") as caught:
                load_model(resolve(tmp_path), dtype)
            assert "is_decoder False" in caught.value.details["found"]


def test_a_model_whose_prompt_sees_itself_whole_is_refused(tmp_path):
    """Without being told which tokens are the prompt it predicts like a causal one, and that is another model."""
    from tiny import byte_tokenizer, small
    from transformers import AutoModelForCausalLM

    for prefix in (False, True):
        AutoModelForCausalLM.from_config(small("hrm_text", prefix_lm=prefix)).save_pretrained(tmp_path)
        byte_tokenizer().save_pretrained(tmp_path)
        if not prefix:
            load_model(resolve(tmp_path), "float32")
            continue
        with pytest.raises(InputError, match="not a causal language model") as caught:
            load_model(resolve(tmp_path), "float32")
        assert "prefix_lm True" in caught.value.details["found"]


def _changed(**keys):
    def change(text):
        return json.dumps({**json.loads(text), **keys}).encode()

    return change


BROKEN = {
    "truncated weights": ("model.safetensors", lambda data: data[: len(data) // 2]),
    "weights of no format": ("model.safetensors", lambda _: b"\xff" * 64),
    "no weights in it": ("model.safetensors", lambda _: b""),
    "layers in words": ("config.json", _changed(num_hidden_layers="two")),
    "heads that do not divide": ("config.json", _changed(num_attention_heads=0)),
    "another width": ("config.json", _changed(hidden_size=96)),
    "no such type": ("config.json", _changed(model_type="nonesuch")),
    "a type that is none": ("config.json", _changed(model_type=["qwen2"])),
    "rope of another kind": ("config.json", _changed(rope_parameters=3)),
    "a tokenizer of another kind": ("tokenizer.json", lambda _: b"[]"),
    "a truncated tokenizer": ("tokenizer.json", lambda data: data[: len(data) // 2]),
    "a tokenizer's config that is none": ("tokenizer_config.json", lambda _: b"[1]"),
    "ends that are none": ("generation_config.json", lambda _: b'{"eos_token_id": ["x"]}'),
    "a generation's config that is none": ("generation_config.json", lambda _: b"null"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_one_error_names_the_folder(folder, tmp_path, what):
    name, change = BROKEN[what]
    shutil.copytree(folder, tmp_path / "m")
    path = tmp_path / "m" / name
    path.write_bytes(change(path.read_bytes() if path.exists() else b""))
    with pytest.raises(InputError) as caught:
        model = resolve(tmp_path / "m")
        load_tokenizer(model)
        load_model(model, "float32")
    assert str(tmp_path / "m") in caught.value.details["file"] and len(str(caught.value)) < 3000


@pytest.mark.parametrize("part", ["lm_head.weight", "model.layers.0.mlp.up_proj.weight"])
def test_weights_that_are_missing_are_not_drawn_at_random(folder, tmp_path, part):
    """As of an untied model saved without its head, or a file that was lost."""
    shutil.copytree(folder, tmp_path / "m")
    (tmp_path / "m" / "config.json").write_bytes(
        _changed(tie_word_embeddings=False)((folder / "config.json").read_bytes())
    )
    weights = load_file(folder / "model.safetensors")
    weights.setdefault("lm_head.weight", weights["model.embed_tokens.weight"].clone())
    del weights[part]
    save_file(weights, tmp_path / "m" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="lack a part of the model, which would be random") as caught:
        load_model(resolve(tmp_path / "m"), "float32")
    assert caught.value.details["field"] == part
