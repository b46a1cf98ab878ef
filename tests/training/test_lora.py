"""LoRA: the adapters train and nothing else does; what is saved is one plain model."""

import copy
import json

import polars as pl
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tiny import forest, small

from curate.base.errors import UsageError
from curate.models.load import load_model
from curate.models.rendering import load_tokenizer
from curate.models.resolve import resolve
from curate.project import params
from curate.scoring.score import score
from curate.training.build import held_in
from curate.training.pairs import PairDataset, draw
from curate.training.policy import add_lora, as_plain, make_policy
from curate.training.train import train
from curate.training.work import Work

OPTIONS = params.TrainParams(
    epochs=1, batch_pairs=8, evaluations=2, eval_pairs=16, checkpoints=3, lora_rank=4, learning_rate=1e-2, kl_prompts=0
)
KINDS = {"llama": {}, "granite": {"logits_scaling": 8.0}}  # in packs, and padded
ROUTED = {"phimoe": {"num_local_experts": 4, "num_experts_per_tok": 2}}
ZAMBA2 = {"num_hidden_layers": 4, "layers_block_type": ["mamba", "hybrid"] * 2, "num_mem_blocks": 1, "adapter_rank": 8}
ZAMBA2 |= {"n_mamba_heads": 8, "mamba_headdim": 16, "mamba_d_state": 16, "num_key_value_heads": 4}
OF_TWO = "model.layers.1.shared_transformer.self_attn.q_proj, model.layers.3.shared_transformer.self_attn.q_proj"


def policy_of(kind, **options):
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    more = (KINDS | ROUTED | {"zamba2": ZAMBA2})[kind]
    return make_policy(AutoModelForCausalLM.from_config(small(kind, **more)), **options)


@pytest.mark.parametrize("targets", [["all-linear"], ["q_proj", "v_proj"]], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_only_adapters_train_and_merging_keeps_the_numbers(kind, targets):
    plain = policy_of(kind)
    assert plain.curate_packs == (kind == "llama")
    kept = {name: weight.clone() for name, weight in plain.state_dict().items()}
    policy = add_lora(plain, 4, 8.0, targets).train()
    before = policy(work=Work(forest()))["logps"]
    trained = {name: weight for name, weight in policy.named_parameters() if weight.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    assert not any("lm_head" in name for name in trained)
    modules = {name.rpartition(".lora_")[0].rpartition(".")[2] for name in trained}
    whole = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert modules == (whole if targets == ["all-linear"] else set(targets))
    optimizer = torch.optim.SGD(trained.values(), lr=0.01)
    for _ in range(2):  # B starts at zero, so that A moves from the second step on
        optimizer.zero_grad()
        (policy(work=Work(forest()))["logps"] / 100).sum().backward()
        assert all(weight.grad is None for name, weight in policy.named_parameters() if name not in trained)
        optimizer.step()
    after = policy(work=Work(forest()))["logps"].detach()
    assert (after - before).abs().max() > 0.02
    state = policy.base_model.model.state_dict()
    for name, weight in kept.items():
        stem, _, last = name.rpartition(".")
        assert torch.equal(state.get(name, state.get(f"{stem}.base_layer.{last}")), weight), name
    merged = as_plain(policy)
    assert set(merged.state_dict()) == set(kept) and type(merged) is type(plain)
    changed = {name for name, weight in merged.state_dict().items() if not torch.equal(weight, kept[name])}
    assert {name.split(".")[-2] for name in changed} == modules
    with torch.no_grad():
        assert (merged(work=Work(forest()))["logps"] - after).abs().max() < 1e-4


@torch.no_grad()
def test_an_adapter_of_an_embedding_that_is_the_head_s_weight_is_merged_into_the_embedding_alone():
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    policy = make_policy(AutoModelForCausalLM.from_config(small("llama", tie_word_embeddings=True)))
    adapted = add_lora(policy, 4, 8.0, ["embed_tokens"])
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    expected = adapted(work=Work(forest()))["logps"]
    assert torch.allclose(as_plain(adapted)(work=Work(forest()))["logps"], expected, rtol=1e-4)


def test_a_fresh_adapter_changes_nothing_at_all():
    policy = policy_of("llama")
    with torch.no_grad():
        before = policy(work=Work(forest()))["logps"]
        assert torch.equal(
            add_lora(copy.deepcopy(policy), 4, 8.0, ["all-linear"])(work=Work(forest()))["logps"], before
        )


def test_gradient_checkpointing_reaches_the_adapters():
    found = []
    for checkpointing in (False, True):
        policy = policy_of("llama", gradient_checkpointing=checkpointing)
        policy = add_lora(policy, 4, 8.0, ["all-linear"]).train()
        policy(work=Work(forest()))["logps"].sum().backward()
        found.append({name: weight.grad for name, weight in policy.named_parameters() if "lora_B" in name})
    for name, gradient in found[0].items():
        assert gradient.norm() > 0 and (found[1][name] - gradient).norm() <= 1e-5 * gradient.norm(), name


@pytest.mark.parametrize("targets", [["no_such_layer"], ["lm_heads", "x"]], ids=str)
def test_targets_that_are_not_there(targets):
    with pytest.raises(UsageError, match="cannot adapt") as caught:
        add_lora(policy_of("llama"), 4, 8.0, targets)
    assert caught.value.details["field"] == "train.lora_targets"


def test_modules_that_take_no_adapter():
    """PEFT puts one on a router, which gives several tensors, and fails in the first pass."""
    with pytest.raises(UsageError, match="cannot adapt") as caught:
        add_lora(policy_of("phimoe"), 4, 8.0, ["all-linear"])
    assert caught.value.details["found"].startswith("all-linear: ")
    add_lora(policy_of("phimoe"), 4, 8.0, ["q_proj", "v_proj"])


def test_the_head_takes_no_adapter():
    """Of which the loss, computed from the head's own weight, would see nothing."""
    with pytest.raises(UsageError, match="the LM head takes no adapter"):
        add_lora(policy_of("llama"), 4, 8.0, ["q_proj", "lm_head"])


def test_a_weight_in_two_places_takes_no_adapter():
    """Merged, one layer's would change the other layer too."""
    with pytest.raises(UsageError, match="in two places") as caught:
        add_lora(policy_of("zamba2"), 4, 8.0, ["q_proj", "in_proj"])
    assert caught.value.details["found"] == OF_TWO
    add_lora(policy_of("zamba2"), 4, 8.0, ["in_proj"])


def test_a_run_saves_the_merged_model_and_its_numbers_are_the_policys(weights, model, tmp_path):
    metrics = train(weights, model, OPTIONS, params.DEFAULT_ARMS["dpo"], "dpo", tmp_path / "run", tmp_path / "state")
    folder = tmp_path / "run" / "model"
    assert not list(folder.glob("adapter*")) and "lora" not in (folder / "config.json").read_text()
    merged = resolve(folder)
    policy, base = (load_model(one, "float32") for one in (merged, model))
    changed = {name for name, weight in policy.state_dict().items() if not torch.equal(weight, base.state_dict()[name])}
    assert changed and all("_proj.weight" in name for name in changed)
    assert (
        torch.linalg.matrix_rank(
            (policy.model.layers[0].mlp.up_proj.weight - base.model.layers[0].mlp.up_proj.weight).detach(), rtol=1e-3
        )
        == 4
    )
    heldout = weights.filter(pl.col("split") == "heldout")
    after = score(heldout, merged, params.ScoreParams(engine="transformers"), tmp_path / "store").scores
    assert metrics["heldout"]["logps/chosen"] == pytest.approx(after["ref_chosen_logps"].mean(), abs=1e-4)
    assert metrics["heldout"]["loss"] != pytest.approx(metrics["start"]["loss"], abs=1e-3)


def test_the_seed_decides_the_adapters_and_a_second_run_is_the_same(weights, model, tmp_path):
    torch.manual_seed(123)  # what ran before in this process must not matter
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(weights, model, OPTIONS, params.DEFAULT_ARMS["dpo"], "x", tmp_path / name, tmp_path / "state", seed=seed)
        torch.rand(7)
    saved = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in "abc"]
    assert saved[0] == saved[1] != saved[2]


def test_targets_that_are_not_there_stop_a_run_before_it_writes(weights, model, tmp_path):
    wrong = OPTIONS.model_copy(update={"lora_targets": ["no_such_layer"]})
    with pytest.raises(UsageError, match="cannot adapt"):
        train(weights, model, wrong, params.DEFAULT_ARMS["dpo"], "dpo", tmp_path / "run", tmp_path / "state")
    assert not (tmp_path / "run").exists() and not (tmp_path / "state" / "checkpoints").exists()


def test_in_bfloat16_the_weights_below_the_adapters_are_held_so(weights, model, tmp_path):
    """Memory is what LoRA is for: 2 bytes a weight that stands still. The adapters train in float32.

    The run's numbers are those of the adapter that is saved beside the merged model. Merging adds in float32 and rounds
    once, to bfloat16: 8 bits of each weight, which loses a part of a small update.
    """
    found = {}
    for dtype in ("float32", "bfloat16"):
        options = OPTIONS.model_copy(update={"dtype": dtype, "check_tolerance": 0.05, "save": "both"})
        found[dtype] = train(
            weights, model, options, params.DEFAULT_ARMS["dpo"], "dpo", tmp_path / dtype, tmp_path / "s"
        )
    folder = tmp_path / "bfloat16" / "model"
    saved = load_file(folder / "model.safetensors")
    assert {weight.dtype for weight in saved.values()} == {torch.bfloat16}
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    whole, half = (found[dtype]["heldout"]["rewards/margins"] for dtype in ("float32", "bfloat16"))
    assert abs(whole) > 0.05 and half == pytest.approx(whole, rel=0.3)
    policy = add_lora(make_policy(load_model(model, held_in(options))), 4, 8.0, ["all-linear"])
    dtypes = {name.rpartition(".lora_")[1]: weight.dtype for name, weight in policy.named_parameters()}
    assert dtypes == {"": torch.bfloat16, ".lora_": torch.float32}

    heldout = draw(weights.filter(pl.col("split") == "heldout"), options.eval_pairs, 0)
    dataset = PairDataset(load_tokenizer(model), heldout.with_columns(harmful=pl.lit(0.0)))
    chosen = [dataset[row].chosen for row in range(len(dataset))]
    tokens = torch.tensor([len(sequence.response_ids) for sequence in chosen])

    def of(policy):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            return policy(work=Work(chosen))["logps"]

    base = make_policy(load_model(model, "bfloat16"))
    before, rounded = of(base), of(make_policy(load_model(resolve(folder), "bfloat16")))
    exact = of(PeftModel.from_pretrained(base, folder / "adapter"))
    assert exact.mean().item() == pytest.approx(found["bfloat16"]["heldout"]["logps/chosen"], abs=1e-3)
    lost, update = (((exact - other) / tokens).abs().mean().item() for other in (rounded, before))
    assert 0 < lost < 0.01 < update  # nats/token; 0.0039 of 3.1 when this was written


def test_an_adapter_alone_is_a_model(weights, model, tmp_path, monkeypatch):
    """Its base is named by the folder, from the working folder where it lies below; its numbers are the run's."""
    monkeypatch.chdir(model.path.parent)
    arm, scores = params.DEFAULT_ARMS["dpo"], params.ScoreParams(engine="transformers")
    options = OPTIONS.model_copy(update={"save": "adapter"})
    metrics = train(weights, model, options, arm, "dpo", tmp_path / "run", tmp_path / "state")
    folder = tmp_path / "run" / "model"
    assert not list(folder.glob("model*.safetensors")) and not (folder / "config.json").exists()
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == model.path.name
    assert len(config["target_modules"]) > 6 and config["target_modules"] == sorted(config["target_modules"])
    assert "library_name: peft" in (folder / "README.md").read_text()
    adapted = resolve(folder)
    assert adapted.adapter == folder and adapted.path.samefile(model.path)
    after = score(weights.filter(pl.col("split") == "heldout"), adapted, scores, tmp_path / "store").scores
    assert metrics["heldout"]["logps/chosen"] == pytest.approx(after["ref_chosen_logps"].mean(), abs=1e-4)
    # Merged it is another folder of the same run.
    merged = train(weights, model, OPTIONS, arm, "dpo", tmp_path / "merged", tmp_path / "state")
    assert merged == metrics and (tmp_path / "merged" / "model" / "config.json").is_file()


@pytest.mark.parametrize(("changes", "says"), [({"lora_rank": 0}, "no LoRA"), ({}, "a base that is an adapter")])
def test_an_adapter_that_cannot_be_saved(changes, says, weights, model, tmp_path):
    options = OPTIONS.model_copy(update={"save": "both", **changes})
    base = model._replace(adapter=model.path) if not changes else model
    with pytest.raises(UsageError, match="no adapter that could be saved") as caught:
        train(weights, base, options, params.DEFAULT_ARMS["dpo"], "dpo", tmp_path / "run", tmp_path / "state")
    assert caught.value.details["found"] == f"both, and {says}" and not (tmp_path / "state").exists()
