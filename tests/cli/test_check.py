"""`curate check` as a person calls it."""

import json
import shutil

import pytest
from tiny import CHATML, byte_tokenizer, pairs, save_model, small
from typer.testing import CliRunner

from curate.base import files
from curate.cli import app
from curate.models.resolve import resolve


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("check") / "model")


def check(*arguments):
    return CliRunner().invoke(app, ["check", *map(str, arguments)])


def test_a_model_that_can_be_used(folder):
    done = check(folder)
    assert done.exit_code == 0 and done.stdout.splitlines()[-1].split(maxsplit=1) == ["verdict", "can be used"]
    assert len(done.stdout.splitlines()) < 25
    told = json.loads(check(folder, "--json").stdout)
    assert told["usable"] is True and told["faults"] == []
    assert told["model"]["digest"] == resolve(folder).digest and told["context"] == 256
    assert told["end of turn"]["end_of_turn"] == "<|im_end|>" and told["own system"] is None and told["clock"] is None
    assert told["boundary"] == {"exact": 6, "of": 6}
    assert told["packs"] is True and told["padding"] is True and told["speed"] > 0
    assert told["parity"]["one_by_one"] < 1e-5 and told["parity"]["float64"] < 1e-5
    assert told["family"]["class"] == "Qwen2ForCausalLM"


def test_a_model_of_few_positions(tmp_path):
    """GPT-2 has no position past its last; the sequences that are tried elsewhere have 120 tokens."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = byte_tokenizer()
    size = {"vocab_size": len(tokenizer), "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 100}
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(**size, bos_token_id=0, eos_token_id=2)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    told = json.loads(check(tmp_path, "--json").stdout)
    assert told["packs"] is True and told["parity"]["one_by_one"] < 1e-5


def test_what_transformers_default_attention_leaves_out_is_found(tmp_path, monkeypatch):
    """Were a soft cap not seen to, the engine would leave it out, and so would a model that attends as it does."""
    from transformers import AutoModelForCausalLM

    config = small("gemma2", attn_logit_softcapping=2.0, vocab_size=len(byte_tokenizer()))
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    assert json.loads(check(tmp_path, "--json").stdout)["usable"] is True
    monkeypatch.setattr("curate.models.load.attend_capped", lambda _: None)
    told = json.loads(check(tmp_path, "--json").stdout)
    assert told["usable"] is False and "not the model's" in str(told["faults"])


def test_one_thread_is_one_thread(monkeypatch):
    import torch

    for count, said in ((1, "CPU, 1 thread,"), (2, "CPU, 2 threads,")):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=count: count)
        assert said in check().stdout


def test_without_a_model_it_says_what_is_installed():
    done = check()
    assert done.exit_code == 0
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == ["curate", "installed", "device", "compiler"]
    told = json.loads(check("--json").stdout)
    assert {"torch", "transformers"} <= told["installed"].keys() and told["usable"] is None


def test_the_pairs_that_are_asked_about(folder, tmp_path):
    frame = pairs(("the fox", "quick secret", "no"), ("a", "brown", "dog"), ("b", "\U0001f98a same", "yes"))
    files.write_parquet(frame, tmp_path / "pairs.parquet", {})
    done = check(folder, "--pairs", tmp_path / "pairs.parquet")
    assert done.exit_code == 0 and "exact in 3 of 3 pairs" in done.stdout and "secret" not in done.output


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (None, "no chat template"),
        ("{{ raise_exception('never') }}", "never"),
        ("{{ loop }}{% for m in messages %}{{ messages|length }}{{ m['content'] }}{% endfor %}", "a different"),
    ],
)
def test_a_template_that_cannot_be_used(folder, tmp_path, template, says):
    shutil.copytree(folder, tmp_path / "m")
    (tmp_path / "m" / "chat_template.jinja").unlink()
    byte_tokenizer(template).save_pretrained(tmp_path / "m")
    done = check(tmp_path / "m")
    assert done.exit_code == 1 and "cannot be used" in done.stdout
    assert "remedy" in done.stderr and (says in done.stderr or says == "a different")
    # The numbers are looked at all the same, on tokens drawn at random.
    assert "parity" in done.stdout


def test_a_template_that_some_pairs_do_not_suit(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "m")
    template = "{% if messages[-1]['content']|length == 3 %}{{ raise_exception('three') }}{% endif %}" + CHATML
    byte_tokenizer(template).save_pretrained(tmp_path / "m")
    done = check(tmp_path / "m")
    assert done.exit_code == 0 and "exact in 5 of 6 pairs; 1 set aside: the chat template refuses" in done.stdout


@pytest.mark.parametrize("config", ["{}", '{"max_position_embeddings": 8, "model_type": "nothing"}'])
def test_a_folder_that_is_no_model(folder, tmp_path, config):
    shutil.copytree(folder, tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text(config)
    done = check(tmp_path / "m")
    assert done.exit_code == 1 and "cannot be used" in done.stdout and "Traceback" not in done.output


def test_no_such_model(tmp_path):
    done = check(tmp_path / "nothing")
    assert done.exit_code == 1 and "no such model" in done.stderr
    assert json.loads(check(tmp_path / "nothing", "--json").stdout)["usable"] is False
