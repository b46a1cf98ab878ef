"""Back from the Hub: the rows as they went, by `datasets` and by `curate train`, and nothing that was tampered with."""

import json
import os
import re
import shlex
import subprocess
import sys

import command
import polars as pl
import pytest
import yaml
from hub_server import Fault
from huggingface_hub import constants
from polars.testing import assert_frame_equal
from tiny import many, save_model
from typer.testing import CliRunner

from curate import cli
from curate.base import files
from curate.base.errors import InputError, UsageError
from curate.evaluation import sources
from curate.hub.load import load
from curate.models.resolve import resolve
from curate.project import params
from curate.scoring.score import score
from curate.selection.subsets import split
from curate.selection.weights import provenance, weigh

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108020000009077"
    "53de0000000c4944415478da63f8cfc000000301010018dd8db00000000049454e44ae426082"
)
LOAD = """
import json, sys
from datasets import load_dataset
found = {}
for config in ("default", "balanced", "imbalanced"):
    for side, rows in load_dataset(sys.argv[1], config).items():
        found[f"{config}/{side}"] = rows.to_list()
        assert str(rows.features["prompt"]).startswith("List({'role': Value('string')"), rows.features
print(json.dumps(found))
"""


def process(hub, home, *words):
    """Run it as a user does: with nothing but the environment to say where the Hub is."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "CURATE_"))}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "hf_writer"}
    done = subprocess.run(
        [sys.executable, *words], cwd=home, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert "hf_writer" not in done.stdout + done.stderr
    return done


def test_a_folder_of_a_dataset_is_read_where_it_has_no_such_configuration(hub, tmp_path):
    """As HH-RLHF and HelpSteer2's preferences are kept."""
    row = '{"prompt": "%s %d", "chosen": "a", "rejected": "b"}\n'
    names = ("harmless", "helpful")
    hub.make("me/data", {f"{name}/train.jsonl": "".join(row % (name, n) for n in range(4)).encode() for name in names})
    call = ("-m", "curate", "prepare", "hub:me/data", "--out", "p.parquet", "--hub-config")
    done = process(hub, tmp_path, *call, "harmless")
    assert done.returncode == 0, done.stderr
    asked = pl.read_parquet(tmp_path / "p.parquet")["prompt"].list.first().struct.field("content")
    assert sorted(asked) == [f"harmless {n}" for n in range(4)]
    assert "%" not in done.stderr, "a bar where there is no terminal"
    done = process(hub, tmp_path, *call, "nothing")
    assert done.returncode == 1 and "no such configuration or split" in done.stderr and "'nothing'" in done.stderr


@pytest.mark.parametrize("kind", ["image", "audio"])
def test_pictures_and_sound_are_not_opened_and_the_same_rows_have_the_same_digest(hub, tmp_path, kind):
    held = {"bytes": PNG if kind == "image" else b"RIFF", "path": "x"}
    row = {"prompt": "q", "chosen": "a", "rejected": "b", "one": held, "many": [held], "object": '{"k":[1]}'}
    pl.DataFrame([row]).write_parquet(tmp_path / "train.parquet")
    told = [{"name": name, "dtype": "string"} for name in ("prompt", "chosen", "rejected")]
    told += [{"name": "one", "dtype": kind}, {"name": "many", "list": kind}, {"name": "object", "dtype": "json"}]
    card = f"---\n{yaml.safe_dump({'dataset_info': {'features': told}})}---\n"
    hub.make("me/data", {"README.md": card.encode(), "train.parquet": (tmp_path / "train.parquet").read_bytes()})
    digests = set()
    for _ in range(2):
        kept = (word for name in ("one", "many", "object") for word in ("--keep", name))
        done = process(hub, tmp_path, "-m", "curate", "prepare", "hub:me/data", "--out", "p.parquet", *kept)
        assert done.returncode == 0, done.stderr
        digests.add(files.read_json(tmp_path / "p.prepare.json")["source_digest"])
    one, many, whole = pl.read_parquet(tmp_path / "p.parquet").select("one", "many", "object").row(0)
    assert len(digests) == 1 and '"path": "x"' in one and '"path": "x"' in many and whole == '{"k": [1]}'


def test_rows_of_another_commit_are_refused_where_the_hub_fails(hub, tmp_path):
    row = '{"prompt": "question %d", "chosen": "a", "rejected": "b"}\n'
    hub.make("me/data", {"train.jsonl": (row % 1).encode()})
    call = ("-m", "curate", "prepare", "hub:me/data", "--out", "p.parquet")
    assert process(hub, tmp_path, *call).returncode == 0
    first, second = hub.repo("me/data").commits[-1][0], hub.put("me/data", {"train.jsonl": (row % 2).encode()})
    hub.faults.append(Fault("HEAD", r"/resolve/", 403, times=9))
    done = process(hub, tmp_path, *call)
    assert done.returncode == 1 and "rows of another commit" in done.stderr, done.stderr
    assert f"found: commit {first}; expected: commit {second}" in done.stderr
    hub.faults.clear()
    assert process(hub, tmp_path, *call).returncode == 0
    assert pl.read_parquet(tmp_path / "p.parquet")["prompt"].list.first().struct["content"].to_list() == ["question 2"]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"data.py": b"import datasets\n"}, "made by a script of its own"),
        ({}, "no files that `datasets` reads"),
        ({f"{name}.csv": b"prompt\n" for name in ("one", "two")}, "among the available configs: ['one', 'two']"),
    ],
)
def test_what_datasets_cannot_read_is_said_as_it_is(hub, tmp_path, files, says):
    configs = [{"config_name": name[:-4], "data_files": name} for name in files if name.endswith(".csv")]
    card = {"README.md": f"---\n{yaml.safe_dump({'configs': configs})}---\n".encode()} if configs else {}
    hub.make("me/data", files | card)
    done = process(hub, tmp_path, "-m", "curate", "prepare", "hub:me/data", "--out", "p.parquet")
    assert done.returncode == 1 and says in done.stderr and "HF_ENDPOINT" not in done.stderr, done.stderr


def test_datasets_has_the_same_rows_in_every_configuration(hub, weights, pairs, tmp_path):
    prepared = {"read": 63, "kept": 60, "rejected": 3, "rules": {"duplicate": {"count": 3, "meaning": "a repeat"}}}
    files.write_json(prepared, tmp_path / "prepare.json")
    pushed = process(
        *(hub, tmp_path, "-m", "curate", "publish", str(weights), "--repo", "me/data"),
        *("--prepare", "prepare.json", "--public"),
    )
    assert pushed.returncode == 0, pushed.stderr
    assert "%" not in pushed.stderr, "a bar where there is no terminal"
    card = hub.files("me/data")["README.md"].decode()
    assert "![Scatter" in card and hub.files("me/data")["mutual-information.png"].startswith(b"\x89PNG")
    assert "| duplicate | 3 | a repeat |" in card and "63 rows were read" in card
    loaded = process(hub, tmp_path, "-c", LOAD, "me/data")
    assert loaded.returncode == 0, loaded.stderr
    found = json.loads(loaded.stdout)
    plain = pairs.with_columns(pl.col("query_type", "split").cast(pl.String))
    training, heldout = plain.filter(split="train"), plain.filter(split="heldout")
    assert found == {
        "default/train": training.to_dicts(),
        "default/test": heldout.to_dicts(),
        "balanced/train": training.filter(pl.col("balanced")).to_dicts(),
        "balanced/test": heldout.to_dicts(),
        "imbalanced/train": training.filter(pl.col("imbalanced")).to_dicts(),
        "imbalanced/test": heldout.to_dicts(),
    }
    read = ("-m", "curate", "prepare", "hub:me/data", "--out", "p.parquet")
    assert "warning: no pair is held out" in (done := process(hub, tmp_path, *read)).stderr and done.returncode == 0
    assert "train+test reads both sides" in done.stderr
    both = process(hub, tmp_path, *read, "--hub-split", "train+test")
    assert both.returncode == 0 and "warning" not in both.stderr, both.stderr
    assert pl.read_parquet(tmp_path / "p.parquet")["split"].cast(pl.String).sort().equals(plain["split"].sort())
    refused = command.process("publish", weights, "--repo", "nobody/data", cwd=tmp_path)
    assert refused.returncode == 1 and "may not make a dataset there" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_training_from_the_hub_is_training_from_the_file(hub, tmp_path):
    model = resolve(save_model(tmp_path / "model"))
    scored = score(many(30), model, params.ScoreParams(engine="transformers"), tmp_path / "store")
    weighed = weigh(split(scored.scores, params.SplitParams(match=[])), params.WeighParams(alpha=20))
    made = provenance(params.WeighParams(alpha=20), scored.provenance)
    files.write_parquet(weighed, tmp_path / "weights.parquet", made)

    def run(*arguments):
        done = CliRunner().invoke(cli.app, list(arguments))
        if done.exception:
            raise done.exception
        return done.stderr

    run("publish", "weights.parquet", "--repo", "me/data", "--license", "mit")
    small = ["--model", "model", "--arm", "bw", "--epochs", "1", "--evaluations", "1", "--batch-pairs", "4"]
    run("train", "weights.parquet", *small, "--subset", "balanced", "--out", "from-file")
    said = run("train", "--data", "hub:me/data", *small, "--subset", "balanced", "--out", "from-hub")
    curves = [(tmp_path / name / "curve.csv").read_bytes() for name in ("from-file", "from-hub")]
    assert curves[0] == curves[1] and len(curves[0].splitlines()) > 4
    record = json.loads((tmp_path / "from-hub/model/curate.json").read_text())
    commit = hub.repo("me/data").commits[-1][0]
    assert record["from"].pop("published") == {"repository": "me/data", "commit": commit}
    assert record["from"]["params"]["alpha"] == 20 and record["from"]["stage"] == "weigh"

    # What is said to come next reads the held-out pairs, which are a split of their own.
    call = shlex.split(next(line for line in said.splitlines() if line.startswith("next: ")).removeprefix("next: "))
    assert call == ["curate", "evaluate", "from-hub/model", "--suite", "heldout=hub:me/data#test"]
    words = (*call[1:], "--engine", "transformers", "--max-tokens", "2", "--limit", "2")
    done = process(hub, tmp_path, "-m", *call[:1], *words)
    assert done.returncode == 0 and "heldout: refusals" in done.stdout, done.stderr
    assert "%" not in done.stderr
    again = (*("-m", "curate", "train", "--data", "hub:me/data", *small), "--out", "again")
    done = process(hub, tmp_path, *again)
    assert done.returncode == 0 and "%" not in done.stderr and "Fetching" not in done.stderr, done.stderr
    run_card(hub, tmp_path)


def run_card(hub, folder):
    """Every block of the published card runs as it stands, but for MODEL, which the card says is the reader's."""
    card = hub.files("me/data")["README.md"].decode()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", card, flags=re.M | re.S)
    assert sorted(language for language, _ in blocks) == ["", "bibtex", "python", "yaml"]
    for language, text in blocks:
        text = text.replace("MODEL", "model")
        if language == "":
            for line in text.splitlines():
                assert line.startswith("curate ")
                done = command.process(*shlex.split(line)[1:], cwd=folder)
                assert done.returncode == 0 and (folder / "run" / "model").is_dir(), done.stderr
        elif language == "python":
            done = process(hub, folder, "-c", text)
            assert done.returncode == 0 and "train_runtime" in done.stdout, done.stderr
        elif language == "yaml":
            assert yaml.safe_load(text)["weigh"]["alpha"] == 20
        else:
            assert text.startswith("@misc{") and text.count("{") == text.count("}")


@pytest.mark.usefixtures("no_figure")
def test_a_revision_is_taken_and_what_was_loaded_needs_no_hub_again(hub, publish, pairs, monkeypatch):
    publish()
    first = hub.repo("me/data").commits[-1][0]
    hub.put("me/data", {"notes.txt": b"later"})
    expected = pl.concat([pairs.filter(split=side) for side in ("train", "heldout")])
    for name, commit in (("hub:me/data", hub.repo("me/data").commits[-1][0]), (f"hub:me/data@{first}", first)):
        frame, made = load(name, "pairs", "scores", "splits", "weights")
        assert_frame_equal(frame, expected)
        assert made["published"]["commit"] == commit
    asked = len(hub.asked)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_frame_equal(load(f"hub:me/data@{first}").frame, expected)
    assert_frame_equal(load("hub:me/data").frame, expected)
    assert len(hub.asked) == asked


@pytest.mark.usefixtures("no_figure")
def test_what_is_not_as_it_was_published_is_refused(hub, publish):
    publish()
    there = hub.files("me/data")
    train, test = "data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"
    hub.put("me/data", {train: there[test]})
    with pytest.raises(InputError, match="not the one that was published") as error:
        load("hub:me/data")
    assert error.value.details["field"] == train and hub.repo("me/data").commits[-1][0] in error.value.details["file"]
    publish()
    load("hub:me/data")

    manifest = json.loads(there["curate.json"])
    manifest["configs"]["default"]["train"] = ["data/elsewhere.parquet"]
    hub.put("me/data", {"curate.json": json.dumps(manifest).encode()})
    with pytest.raises(InputError, match="not in the manifest"):
        load("hub:me/data")
    for broken in (b"[]", b"{", json.dumps(manifest | {"layout": 2}).encode()):
        hub.put("me/data", {"curate.json": broken})
        with pytest.raises(InputError, match="not one that this version of curate reads"):
            load("hub:me/data")


@pytest.mark.usefixtures("no_figure")
@pytest.mark.parametrize("status", [0, 401, 403, 503])
def test_an_older_commit_of_the_cache_is_not_used_without_a_word(hub, publish, capsys, status):
    publish()
    load("hub:me/data")
    first = hub.repo("me/data").commits[-1][0]
    hub.put("me/data", {"notes.txt": b"later"})
    hub.faults.append(Fault("GET", r"/revision/main$", status, cut=not status, times=9))
    capsys.readouterr()
    assert load("hub:me/data").provenance["published"]["commit"] == first
    assert f"commit {first} is used, from the cache" in capsys.readouterr().err
    hub.faults.clear()
    assert load("hub:me/data").provenance["published"]["commit"] == hub.repo("me/data").commits[-1][0]
    assert "from the cache" not in capsys.readouterr().err


DATA = r"/resolve/.*/data/train"


@pytest.mark.usefixtures("no_figure")
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault("GET", r"/revision/", cut=True), "cannot be reached"),
        (Fault("HEAD", DATA, cut=True), "cannot be reached"),
        (Fault("GET", DATA, cut=True), "cannot be reached"),
        (Fault("GET", r"/revision/", 502), "answers with HTTP 502"),
        (Fault("HEAD", DATA, 404), "answers with HTTP 404"),
        (Fault("HEAD", DATA, 403), "refuses the token"),
    ],
    ids=lambda value: f"{value.method}-{'cut' if value.cut else value.status}" if isinstance(value, Fault) else "",
)
def test_a_hub_that_fails_while_it_is_read_is_one_message_that_tells_how(hub, publish, fault, says):
    publish()
    hub.faults.append(fault)
    with pytest.raises(InputError, match=says):
        load("hub:me/data")
    hub.faults.clear()
    assert load("hub:me/data").frame.height == 60


@pytest.mark.usefixtures("hub", "no_figure")
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [("ENDPOINT", "127.0.0.1:9", "cannot be reached"), ("HF_HUB_OFFLINE", True, "HF_HUB_OFFLINE is set")],
)
def test_settings_that_keep_from_the_hub_are_named(publish, monkeypatch, name, value, says):
    monkeypatch.setattr(constants, name, value)
    with pytest.raises(InputError, match=says) as error:
        load("hub:me/data")
    assert f"HF_{name.removeprefix('HF_')}" in str(error.value)
    assert f"HF_{name.removeprefix('HF_')}" in str(publish().exception)


def test_a_suite_names_configuration_revision_and_split():
    read = sources._data_params("hub:me/data@v1:balanced#test")
    assert (read.source, read.hub_revision, read.hub_config, read.hub_split) == (
        "hub:me/data",
        "v1",
        "balanced",
        "test",
    )
    assert sources._data_params("hub:me/data@v1#test").hub_config is None
    with pytest.raises(UsageError, match="cannot read the suite's source"):
        sources._data_params("hub:me/data@")


def test_what_is_not_there_or_not_ours(hub):
    hub.make("me/raw", {"train.jsonl": b"{}\n"})
    with pytest.raises(InputError, match="was not published by curate") as error:
        load("hub:me/raw")
    assert "curate prepare hub:me/raw" in error.value.details["remedy"]
    with pytest.raises(InputError, match="no such revision"):
        load("hub:me/raw@v9")
    with pytest.raises(InputError, match="no such Hub repository"):
        load("hub:me/none")
    for name in ("hub:", "hub:data", "hub:me/data@", "hub:../../etc"):
        with pytest.raises(UsageError, match="not a published dataset's name"):
            load(name)


@pytest.mark.parametrize(
    "path", ["../secret.parquet", "/etc/passwd", "data/../../x", "C:\\x", "..\\x", "", "a\0b", "file:///x"]
)
def test_a_manifest_s_file_outside_the_repository_is_refused(tmp_path, path):
    from curate.pairs.manifest import is_inside, read

    assert not is_inside(path) and is_inside("data/train-00000-of-00001.parquet")
    digest = "0" * 64
    said = {"version": "1", "license": "mit", "sources": {}, "weights": digest, "pipeline": {}, "provenance": {}}
    said |= {"prepare": {}, "configs": {"default": {"train": [path]}}, "files": {path: {"bytes": 1, "sha256": digest}}}
    (tmp_path / "curate.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match="not one that this version"):
        read(tmp_path / "curate.json", "hub:me/data")
