"""A judge of one's own: which responses it learns from, and a folder that `judge: classifier` reads."""

import json
import signal
import sys

import polars as pl
import pytest
from tiny import many, pairs, save_model
from transformers import Trainer

import curate.cli
from curate.base import files
from curate.base.errors import InputError
from curate.evaluation import statistics
from curate.evaluation.judges.base import Case
from curate.evaluation.judges.classifier import ClassifierJudge
from curate.evaluation.judges.training import Settings, responses, train
from curate.models.resolve import resolve
from curate.pairs.schema import Split

WORDS = ("I cannot help with that.", "Sure: first mix it, then light it.")


def told_apart(count):
    """Pairs whose safe response begins otherwise than the unsafe one."""
    return pairs(*((f"question {n}", f"{WORDS[0]} {n}", f"{WORDS[1]} {n}") for n in range(count))).with_columns(
        chosen_safe=True, rejected_safe=False
    )


def test_each_response_counts_once_and_a_torn_label_not_at_all():
    frame = pairs(("q", "a", "b"), ("q", "a", "c"), ("q", "d", "a"), ("r", "a", " "), heldout_every=10).with_columns(
        split=pl.lit("train").cast(pl.Enum(["train", "heldout"])), chosen_safe=True, rejected_safe=False
    )
    found = responses(frame, Split.TRAIN)
    assert {(case.question, case.response): label for case, label in zip(found.cases, found.labels, strict=True)} == {
        ("q", "b"): "harmful",
        ("q", "c"): "harmful",
        ("q", "d"): "harmless",
        ("r", "a"): "harmless",
    }
    assert found.told["called both safe and unsafe"] == 1 and found.told["without a label or text"] == 1
    few = responses(told_apart(20), Split.TRAIN, limit=5)
    again = responses(told_apart(20).reverse(), Split.TRAIN, limit=5)
    assert few.cases == again.cases and len(few.labels) == few.told["responses"] == 5
    with pytest.raises(InputError, match="have not both safe and unsafe"):
        responses(frame.with_columns(rejected_safe=pl.lit(None, pl.Boolean)), Split.TRAIN)


def test_a_body_of_its_own_learns_and_the_blocks_below_stand_still(tmp_path):
    model = resolve(save_model(tmp_path / "model"))
    found = responses(told_apart(24), Split.TRAIN)
    told = train(model, found, Settings(blocks=1, epochs=6, learning_rate=3e-3, batch=8), tmp_path / "judge")
    assert told["trained_on"] == len(found.cases) == 40 and not told["too_long"]
    judge = ClassifierJudge(resolve(tmp_path / "judge"), "float32", None, tmp_path / "state")
    cases = [Case(f"question {n}", f"{word} {n}", f"{word} {n}") for n in range(50, 54) for word in WORDS]
    harm = [verdict.harm for verdict in judge.judge(cases, "harm")]
    assert max(harm[::2]) < 0.5 < min(harm[1::2])
    before, after = (load(tmp_path / name) for name in ("model", "judge"))
    moved = {name for name in before if name in after and not before[name].equal(after[name])}
    assert moved and all(".layers.1." in name for name in moved)


def load(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "model")
    files.write_parquet(told_apart(20), tmp_path / "pairs.parquet", {"stage": "prepare"})
    given = ["judge", "train", "pairs.parquet", "--model", "model", "--epochs", "1", "--blocks", "0"]
    monkeypatch.setattr(sys, "argv", ["curate", *given])
    with pytest.raises(SystemExit) as stop:
        curate.cli.main()
    out, err = capsys.readouterr()
    assert stop.value.code in (0, None), err
    assert "accuracy" in out and "auroc" in out and "words:" in out and WORDS[1] not in out + err
    assert "judge: judge in float32" in err and ".tmp" not in err
    record = json.loads((tmp_path / "judge" / "judge.json").read_text())
    assert record["agreement"]["n"] == 8 and record["training"]["responses"] == 32 and record["settings"]["blocks"] == 0


def test_training_that_diverges_is_one_message_and_no_judge(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "model")
    files.write_parquet(told_apart(20), tmp_path / "pairs.parquet", {"stage": "prepare"})
    given = [
        "judge",
        "train",
        "pairs.parquet",
        "--model",
        "model",
        "--learning-rate",
        "10",
        "--epochs",
        "5",
        "--batch",
        "1",
        "--blocks",
        "9",
    ]
    monkeypatch.setattr(sys, "argv", ["curate", *given])
    with pytest.raises(SystemExit) as stop:
        curate.cli.main()
    said = capsys.readouterr().err
    assert stop.value.code == 1 and "training has diverged" in said and "learning_rate" in said
    assert str(tmp_path) not in said and not (tmp_path / "judge").exists()


def test_what_measures_it_is_asked_for_before_it_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "model")
    files.write_parquet(told_apart(20), tmp_path / "pairs.parquet", {"stage": "prepare"})
    monkeypatch.setattr(statistics, "find_spec", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["curate", "judge", "train", "pairs.parquet", "--model", "model"])
    with pytest.raises(SystemExit) as stop:
        curate.cli.main()
    err = capsys.readouterr().err
    assert stop.value.code == 1 and "statsmodels" in err and "judge:" not in err and not (tmp_path / "judge").exists()


def test_pairs_without_labels_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    bare = many(12).with_columns(chosen_safe=pl.lit(None, pl.Boolean), rejected_safe=pl.lit(None, pl.Boolean))
    files.write_parquet(bare, tmp_path / "pairs.parquet", {"stage": "prepare"})
    monkeypatch.setattr(sys, "argv", ["curate", "judge", "train", "pairs.parquet", "--model", "model"])
    with pytest.raises(SystemExit) as stop:
        curate.cli.main()
    assert stop.value.code == 1 and "safety labels" in capsys.readouterr().err and not (tmp_path / "judge").exists()


def test_ctrl_c_keeps_nothing_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "model")
    files.write_parquet(told_apart(20), tmp_path / "pairs.parquet", {"stage": "prepare"})
    monkeypatch.setattr(Trainer, "training_step", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    monkeypatch.setattr(sys, "argv", ["curate", "judge", "train", "pairs.parquet", "--model", "model"])
    with pytest.raises(SystemExit) as stop:
        curate.cli.main()
    said = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 130 and "no judge is kept half-trained" in said and "what was finished" not in said
    assert {path.name for path in tmp_path.iterdir()} <= {"model", "pairs.parquet", ".curate"}


def test_the_record_is_of_the_pairs_that_were_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "model")
    files.write_parquet(told_apart(20), tmp_path / "pairs.parquet", {"stage": "prepare"})
    read, step = files.file_digest("pairs.parquet"), Trainer.training_step

    def other_pairs_meanwhile(*given, **named):
        files.write_parquet(told_apart(9), tmp_path / "pairs.parquet", {"stage": "prepare"})
        return step(*given, **named)

    monkeypatch.setattr(Trainer, "training_step", other_pairs_meanwhile)
    monkeypatch.setattr(sys, "argv", ["curate", "judge", "train", "pairs.parquet", "--model", "model", "--epochs", "1"])
    with pytest.raises(SystemExit) as stop:
        curate.cli.main()
    assert not stop.value.code and files.read_json("judge/judge.json")["pairs"] == read
