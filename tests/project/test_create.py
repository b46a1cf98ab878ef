"""`curate init`: a project elsewhere is the repository's pipeline. tests/test_pipeline.py runs one."""

import importlib
import shutil
from pathlib import Path

import pytest
import yaml
from command import process
from typer.testing import CliRunner

from curate.base.errors import OutputError, UsageError
from curate.cli import app
from curate.pairs.prepare import prepare
from curate.project import create, installed, params, presets

ROOT = Path(__file__).resolve().parents[2]


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_pipeline_elsewhere_is_the_repositorys_but_for_where_the_code_is():
    ours, theirs = yaml.safe_load((ROOT / "dvc.yaml").read_text()), create.pipeline()
    assert list(theirs["stages"]) == ["installed", *ours["stages"]]
    assert theirs["stages"]["installed"]["outs"] == ["curate"] and theirs["stages"]["installed"]["always_changed"]
    for name, stage in ours["stages"].items():
        copy = theirs["stages"][name]
        assert {key: copy[key] for key in copy if key not in ("cmd", "deps")} == {
            key: stage[key] for key in stage if key not in ("cmd", "deps")
        }
        module = stage["cmd"].split()[2]
        assert copy["cmd"] == stage["cmd"].replace(module, f"curate.{module}") and module.startswith("stages.")
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
        assert copy["deps"][0] == f"curate/code/{name}"
        code = [dependency for dependency in stage["deps"] if dependency not in copy["deps"]]
        assert code and all((ROOT / dependency).exists() for dependency in code)
        assert len(copy["deps"]) == 1 + len(stage["deps"]) - len(code)
    titles = [[(title, plot["x"], plot["y"]) for entry in source["plots"] for title, plot in entry.items()]
              for source in (ours, theirs)]  # fmt: skip
    assert titles[0] == titles[1]
    texts = create.contents("")
    assert all(plot["template"] in texts for entry in theirs["plots"] for plot in entry.values())
    assert yaml.safe_load(texts["dvc.yaml"]) == theirs


@pytest.mark.parametrize("path", sorted((ROOT / "stages").glob("*.py")), ids=lambda path: path.stem)
def test_a_stage_is_a_module_of_the_package_as_well(path):
    assert "from stages" not in path.read_text() and "import stages" not in path.read_text()
    if path.stem != "__init__":
        module = importlib.import_module(f"curate.stages.{path.stem}")
        assert Path(module.__file__).samefile(path)


def test_each_stage_depends_on_its_own_code_alone(tmp_path, monkeypatch):
    (tmp_path / "curate").mkdir()
    for name in ("curate", "stages"):
        shutil.copytree(ROOT / name, tmp_path / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.setattr(installed.shipped, "PACKAGE", tmp_path / "curate")
    monkeypatch.setattr(installed.shipped, "ROOT", tmp_path)

    def written(name):
        installed.write(tmp_path / name)
        return {path.name: path.read_text() for path in (tmp_path / name).rglob("*") if path.is_file()}

    before = written("before")
    assert set(before) == {"INSTALLED.txt", "sample", *installed.pipeline()["stages"]}
    (tmp_path / "curate" / "selection" / "weights.py").open("a").write("# another\n")
    (tmp_path / "curate" / "__pycache__").mkdir()
    (tmp_path / "curate" / "__pycache__" / "files.pyc").write_bytes(b"1")
    after = written("after")
    assert {name for name in before if before[name] != after[name]} >= {"weigh", "train"}
    assert all(before[name] == after[name] for name in ("reference", "prepare", "score", "split", "sample"))


def test_the_code_itself_is_never_replaced():
    with pytest.raises(OutputError, match="would lose what it holds"):
        installed.write(ROOT / "curate")


def test_a_preset_with_data_and_model_is_a_valid_params_file(tmp_path, monkeypatch):
    (tmp_path / "données 1.jsonl").write_text('{"prompt": "q", "chosen": "a", "rejected": "b"}\n')
    (tmp_path / "model").mkdir()
    done = process(
        "init", "p/q", "--preset", "pku-small", "--data", "données 1.jsonl", "--model", "model", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path / "p" / "q")
    loaded = params.load()
    assert loaded.data.source == loaded.data.watch == "../../données 1.jsonl"
    assert loaded.model.name == loaded.model.watch == "../../model"
    assert loaded.reference.texts == ["../../données 1.jsonl"] and loaded.reference.hidden_size == 192
    assert loaded.evaluate.suites == ["heldout=data/pairs.parquet"]  # the preset's
    assert "../../données 1.jsonl is read as trl" in done.stderr
    first, second = Path("params.yaml").read_text().splitlines()[:2]
    assert first.startswith("# The preset pku-small, with the data or the model that `curate init` was given")
    assert second == "# B-DPO and DPO on a PKU-SafeRLHF file."
    assert "not there" not in done.stderr and "git init && dvc init" in done.stderr


def test_a_file_for_the_model_from_scratch_gets_a_project_that_sets_long_pairs_aside(tmp_path):
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "q", "chosen": "a", "rejected": "b"}\n')
    done = process("init", "scratch", "--data", "pairs.jsonl", cwd=tmp_path)
    assert "longer than the model's context will be set aside" in done.stderr
    assert params.load(tmp_path / "scratch/params.yaml").score.too_long == "reject"
    done = process("init", "own", "--data", "pairs.jsonl", "--model", "owner/model", cwd=tmp_path)
    assert "set aside" not in done.stderr and params.load(tmp_path / "own/params.yaml").score.too_long == "error"


ODD = '{"q": "Q", "good": "a", "bad": "b", "id": 7, "answers": [{"text": "a", "rank": 2}, {"text": "b", "rank": 1}]}\n'


def test_a_file_that_needs_a_mapping_gets_a_project_that_reads_it(tmp_path, monkeypatch):
    (tmp_path / "odd.jsonl").write_text(ODD * 2)
    fields = ("--field", "prompt=q", "--field", "chosen=good", "--field", "rejected=answers.1.text")
    done = process("init", "new", "--data", "odd.jsonl", *fields, "--keep", "id", "--preset", "pku-small", cwd=tmp_path)
    assert done.returncode == 0 and "../odd.jsonl is read as mapped (prompt is q, chosen is good, " in done.stderr
    monkeypatch.chdir(tmp_path / "new")
    loaded = params.load()
    assert loaded.data.fields == {"prompt": "q", "chosen": "good", "rejected": "answers.1.text"}
    assert (loaded.data.format, loaded.data.keep, loaded.data.pairing) == ("auto", ["id"], "best")
    found = prepare(loaded.data, loaded.cleaning).pairs
    assert (found["chosen"][0][0]["content"], found["rejected"][0][0]["content"], found["id"][0]) == ("a", "b", 7)


@pytest.mark.parametrize(
    ("how", "code", "message"),
    [
        (["--format", "pku_ranked"], 1, "none of the first rows gives a pair"),
        (["--format", "nothing"], 2, "unknown format"),
        (["--field", "prompt=Q", "--field", "chosen=good", "--field", "rejected=bad"], 1, "no such column"),
        (["--field", "prompt"], 2, "not OURS=THEIRS"),
        (["--field", "prompt=q", "--field", "chosen=good", "--field", "rejected=bad", "--keep", "x"], 1, "such column"),
        (["--pairing", "some"], 2, "pairing"),
    ],
)  # fmt: skip
def test_how_data_is_read_is_tried_before_anything_is_written(tmp_path, monkeypatch, how, code, message):
    (tmp_path / "odd.jsonl").write_text(ODD)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["init", "new", "--data", "odd.jsonl", *how])
    said = f"{done.output} {done.exception}"
    assert getattr(done.exception, "exit_code", done.exit_code) == code and message in said
    assert not (tmp_path / "new").exists()


def test_how_data_is_read_wants_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["init", "new", "--format", "trl", "--keep", "id"])
    assert isinstance(done.exception, UsageError) and done.exception.details["found"] == "--format, --keep"


def test_without_data_the_preset_is_written_as_it_is(tmp_path):
    done = process("init", "--preset", "pku-small", cwd=tmp_path)
    assert (tmp_path / "params.yaml").read_text() == (ROOT / "presets" / "pku-small.yaml").read_text()
    assert "not there: ../shared/data/pref/" in done.stderr and "cd " not in done.stderr
    accelerate = params.load(ROOT / "presets" / "paper-qwen2-7b.yaml").train.accelerate
    assert (tmp_path / accelerate).read_text() == (ROOT / accelerate).read_text()


def test_a_presets_model_that_is_not_there_is_named(tmp_path, monkeypatch):
    (tmp_path / "odd.jsonl").write_text(ODD)
    monkeypatch.chdir(tmp_path)
    how = ["--data", "odd.jsonl", "--field", "prompt=q", "--field", "chosen=good", "--field", "rejected=bad"]
    done = CliRunner().invoke(app, ["init", "new", "--preset", "smollm2-pku", *how])
    assert done.exit_code == 0 and "not there: ../models/SmolLM2-135M-Instruct; name your own" in done.stderr
    (tmp_path / "models" / "SmolLM2-135M-Instruct").mkdir(parents=True)
    assert "not there" not in CliRunner().invoke(app, ["init", "other", "--preset", "smollm2-pku", *how]).stderr


@pytest.mark.parametrize(
    ("source", "watch"), [("../mine/a.json", "../mine"), ("../a.json", None), ("data/a.json", None)]
)
def test_a_described_file_is_watched_by_its_folder(source, watch):
    data = params.DataParams(source=source, format="dataset_info")
    if watch is None:
        with pytest.raises(UsageError, match="a folder of their own"):
            create.parameters(presets.preset("default"), data, None, is_folder=False)
    else:
        loaded = yaml.safe_load(create.parameters(presets.preset("default"), data, None, is_folder=False))
        assert loaded["data"]["watch"] == loaded["reference"]["watch"] == watch


def test_hub_names_are_watched_by_the_code_of_the_sample(tmp_path, monkeypatch):
    done = process("init", ".", "--data", "hub:owner/name", "--model", "owner/model", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    loaded = params.load()
    assert (loaded.data.source, loaded.model.name) == ("hub:owner/name", "owner/model")
    assert (loaded.evaluate.suites, loaded.evaluate.watch) == (["heldout=data/pairs.parquet"], "data/pairs.parquet")
    assert {loaded.data.watch, loaded.model.watch, loaded.reference.watch} == {"curate/sample"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--preset", "nothing"], 2, "no such preset"),
        (["--data", "nothing.jsonl"], 1, "cannot read the data"),
        (["--data", "."], 1, "a folder"),
        (["--data", "odd.jsonl"], 1, "none of the formats"),
        (["--model", "nothing"], 1, "no such model"),
        (["--model", "../nothing"], 1, "no such model"),
    ],
)
def test_a_mistake_is_one_message_and_writes_nothing(tmp_path, arguments, code, message):
    (tmp_path / "odd.jsonl").write_text('{"colour": "red"}\n')
    done = process("init", "new", *arguments, cwd=tmp_path)
    assert done.returncode == code and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "new").exists()


def test_no_file_is_overwritten(tmp_path):
    texts = create.contents(presets.preset("default").text)
    (tmp_path / ".gitignore").write_text("mine\n")
    (tmp_path / "params.yaml").write_text("mine: 1\n")
    (tmp_path / "dvc.yaml").symlink_to("nowhere")
    with pytest.raises(OutputError) as caught:
        create.create(tmp_path, texts)
    assert caught.value.details["found"] == "params.yaml, dvc.yaml"
    assert files(tmp_path) == {".gitignore", "params.yaml"}
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).unlink()
    done = process("init", ".", cwd=tmp_path)
    assert done.returncode == 0 and ".gitignore was there and stays as it is; add to it: /.venv/" in done.stderr
    assert (tmp_path / ".gitignore").read_text() == "mine\n" and files(tmp_path) == set(texts)


@pytest.mark.parametrize(
    "mine",
    [
        "curate/notes.txt",
        "data/reference/notes.txt",
        "report/figures/a.png",
        "runs/dpo/seed-0/model/a",
        "data/pairs.parquet",
    ],
)
def test_what_dvc_would_remove_before_it_runs_a_stage_stops_it(tmp_path, mine):
    (tmp_path / mine).parent.mkdir(parents=True)
    (tmp_path / mine).write_text("mine")
    done = process("init", ".", cwd=tmp_path)
    assert done.returncode == 1 and "`dvc repro` would remove them" in done.stderr, done.stderr
    assert mine.startswith(done.stderr.split("found: ")[1].splitlines()[0]) and files(tmp_path) == {mine}
    (tmp_path / "dvc.lock").touch()  # an older version's project, its files moved away: stages made it
    assert process("init", ".", cwd=tmp_path).returncode == 0 and (tmp_path / mine).read_text() == "mine"


def test_what_stands_beside_does_not(tmp_path):
    for mine in ("data/raw.jsonl", "report/paper.tex", "runs/notes.txt"):
        (tmp_path / mine).parent.mkdir(parents=True)
        (tmp_path / mine).write_text("mine")
    assert process("init", ".", cwd=tmp_path).returncode == 0


def test_a_failure_half_way_leaves_nothing(tmp_path):
    (tmp_path / "kept.txt").write_text("")
    texts = {"a/b/one": "1", "two": "2", "kept.txt/three": "3"}  # the last cannot be: its folder is a file
    with pytest.raises(OutputError, match="cannot write the project"):
        create.create(tmp_path, texts)
    assert files(tmp_path) == {"kept.txt"} and not (tmp_path / "a").exists()


def test_what_comes_next_depends_on_what_is_there(tmp_path):
    (tmp_path / "inner").mkdir()
    assert "git init && dvc init" in create.next_commands(tmp_path / "inner")
    (tmp_path / ".git").mkdir()
    assert "dvc init" in create.next_commands(tmp_path)
    assert "dvc init --subdir" in create.next_commands(tmp_path / "inner")
    (tmp_path / "inner" / ".dvc").mkdir()
    (tmp_path / "inner" / ".dvc" / "config").touch()
    assert [line for line in create.next_commands(tmp_path / "inner") if "init" in line] == []


def test_presets_are_listed_each_on_a_line_and_printed():
    listed = process("presets", cwd=ROOT).stdout.splitlines()
    assert [line.split()[0] for line in listed] == list(presets.presets())
    assert all(" Machine: " in line for line in listed)
    assert process("presets", "hh-small", cwd=ROOT).stdout == (ROOT / "presets" / "hh-small.yaml").read_text()
    default = yaml.safe_load(process("presets", "default", cwd=ROOT).stdout)
    assert params.check(params.Params, default) == params.Params()
