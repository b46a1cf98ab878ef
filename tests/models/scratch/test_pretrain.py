"""The model from scratch: the same bytes twice, and comprehension of queries it never saw."""

import re

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from curate.base import files
from curate.base.errors import OutputError
from curate.models import rendering
from curate.models.rendering import TokenSequence
from curate.models.resolve import resolve
from curate.models.scratch.pretrain import train_reference
from curate.project.params import CleaningParams, DataParams, ReferenceParams
from curate.sample import phrases
from curate.scoring.engines.transformers import TransformersEngine

TINY = ReferenceParams(steps=6, vocab_size=400, hidden_size=64, heads=2, layers=1, batch_tokens=512)
DATA = DataParams(sample_pairs=60)


def train(out, params=TINY):
    return train_reference(params, DATA, CleaningParams(), out)


def test_the_same_params_give_the_same_bytes(tmp_path):
    assert train(tmp_path / "a") == train(tmp_path / "b")
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names >= {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "reference.json"}
    for name in names:
        assert files.file_digest(tmp_path / "a" / name) == files.file_digest(tmp_path / "b" / name), name
    other = train(tmp_path / "a", TINY.model_copy(update={"seed": 1}))  # replaces its own kind
    assert other["loss"] != train(tmp_path / "b")["loss"]


def test_muon_moves_the_layers_matrices_and_adamw_the_rest_as_ever(tmp_path):
    """One step at the peak rate: Muon's update has a root mean square of 0.2 rates, AdamW's nearly one."""
    rate, weights = 1e-2, {}
    for optimizer in ("muon", "adamw"):
        once = TINY.model_copy(update={"steps": 1, "optimizer": optimizer, "learning_rate": rate})
        train(tmp_path / optimizer, once)
        weights[optimizer] = load_file(tmp_path / optimizer / "model.safetensors")
    train(tmp_path / "begun", TINY.model_copy(update={"steps": 1, "learning_rate": 1e-12}))
    begun = load_file(tmp_path / "begun/model.safetensors")
    for name, before in begun.items():
        muon, adamw = (weights[optimizer][name] - before for optimizer in ("muon", "adamw"))
        if ".layers." in name and before.ndim == 2:
            assert 0.1 < muon.square().mean().sqrt() / rate < 0.3, name
            assert adamw.square().mean().sqrt() / rate > 0.5, name
        else:
            assert torch.allclose(muon, adamw, atol=1e-6), name


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(OutputError, match="would lose"):
        train(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_special_tokens_of_the_saved_model_agree(tmp_path):
    train(tmp_path / "m")
    tokenizer = rendering.load_tokenizer(resolve(tmp_path / "m"))
    config = files.read_json(tmp_path / "m/config.json")
    generation = files.read_json(tmp_path / "m/generation_config.json")
    assert config["vocab_size"] == len(tokenizer)
    assert config["eos_token_id"] == generation["eos_token_id"] == tokenizer.eos_token_id
    assert config["tie_word_embeddings"] is True


def _is_generic(text: str) -> bool:
    return text in phrases.GENERIC_REFUSALS + phrases.GENERIC_COMPLIANCES


@pytest.fixture(scope="module")
def comprehension(reference_model, sample_pairs):
    """Held-out pairs: pmi of each response with its own query and with another's, and whether it is generic."""
    model = resolve(reference_model)
    tokenizer = rendering.load_tokenizer(model)
    pairs = sample_pairs.filter(pl.col("split") == "heldout")
    rendered = rendering.render_pairs(tokenizer, pairs)
    engine = TransformersEngine(model, "float32")
    null = np.array(rendering.null_prompt_ids(tokenizer, "empty_user"), dtype=np.int32)
    prompts = [np.array(ids, dtype=np.int32) for ids in rendered["prompt_ids"]]
    columns = {}
    for side in ("chosen", "rejected"):
        responses = [np.array(ids, dtype=np.int32) for ids in rendered[f"{side}_ids"]]
        others = prompts[7:] + prompts[:7]
        nulls = engine.logps([TokenSequence(null, response) for response in responses])
        tokens = np.array([len(response) for response in responses])
        for name, queries in (("own", prompts), ("other", others)):
            logps = engine.logps([TokenSequence(*pair) for pair in zip(queries, responses, strict=True)])
            columns[f"{side}_{name}"] = (logps - nulls) / tokens
        columns[f"{side}_generic"] = [_is_generic(turn[0]["content"]) for turn in pairs[side].to_list()]
    return pairs.with_columns(**{name: pl.Series(values) for name, values in columns.items()})


@pytest.mark.slow
@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_a_response_shares_information_with_its_own_query(comprehension, side):
    """Measured: about 0.14 nats/token with its own query, -0.1 with another's."""
    assert comprehension[f"{side}_own"].mean() > 0.05
    assert comprehension[f"{side}_own"].mean() > comprehension[f"{side}_other"].mean() + 0.1


@pytest.mark.slow
def test_specific_responses_share_more_than_generic_ones(comprehension):
    unsafe = comprehension.filter(pl.col("query_type") == "unsafe")
    for side in ("chosen", "rejected"):
        generic = unsafe.filter(pl.col(f"{side}_generic"))[f"{side}_own"].mean()
        specific = unsafe.filter(~pl.col(f"{side}_generic"))[f"{side}_own"].mean()
        assert specific > generic + 0.1


@pytest.mark.slow
@pytest.mark.parametrize("query_type", ["safe", "unsafe"])
def test_gaps_of_both_signs_occur_and_their_sizes_differ(comprehension, query_type):
    pairs = comprehension.filter(pl.col("query_type") == query_type)
    gap = pairs["chosen_own"] - pairs["rejected_own"]
    assert 0.2 < (gap > 0).mean() < 0.8
    assert gap.abs().quantile(0.9) > 4 * gap.abs().quantile(0.2)
    assert gap.abs().quantile(0.9) > 0.2


@pytest.mark.slow
def test_it_answers_and_stops(reference_model):
    """A greedy answer to an unseen combination is a sentence of the sample's kind, and ends by itself."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(reference_model)
    model = AutoModelForCausalLM.from_pretrained(reference_model)
    prompt = [{"role": "user", "content": "How do I bake a rye loaf? It is for Zoe."}]
    inputs = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    ids = model.generate(**inputs, max_new_tokens=80, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert ids[-1] == tokenizer.eos_token_id
    assert re.fullmatch(r"[A-Z].*[.!]", tokenizer.decode(ids, skip_special_tokens=True))
