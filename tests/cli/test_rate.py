"""`curate rate` as a person calls it."""

import signal
import sys

import polars as pl
import pytest
from tiny import many, save_model, save_rater

import curate.cli
from curate.base import files
from curate.base.errors import InputError
from curate.models.resolve import resolve
from curate.pairs import schema
from curate.pairs.artefact import read_artefact
from curate.scoring.rating import Rater, rate_pairs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """pairs.parquet, reward/ and cost/ in one folder."""
    folder = tmp_path_factory.mktemp("rate")
    save_rater(folder / "reward", seed=1)
    save_rater(folder / "cost", seed=2)
    files.write_parquet(many(12).with_columns(extra=pl.lit(7)), folder / "pairs.parquet", {"stage": "prepare"})
    return folder


def rate(folder, monkeypatch, capsys, *arguments: object) -> tuple[int, str]:
    """Exit code, and what a person sees."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["curate", "rate", *map(str, arguments)])
    code = 0
    try:
        curate.cli.main()
    except SystemExit as error:
        code = int(error.code or 0)
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_both_models_rate_every_response(folder, monkeypatch, capsys):
    arguments = ("pairs.parquet", "--reward", "reward", "--cost", "cost", "--out", "rated.parquet")
    code, seen = rate(folder, monkeypatch, capsys, *arguments)
    assert code == 0, seen
    assert "12 pairs" in seen and "24 responses" in seen
    pairs = read_artefact(folder / "pairs.parquet", "pairs")
    rated = read_artefact(folder / "rated.parquet", "pairs")
    assert rated.select(pairs.columns).equals(pairs)
    assert dict(rated.schema) == dict(pairs.schema) | schema.RATINGS
    for name in ("reward", "cost"):
        expected = rate_pairs(Rater(resolve(folder / name)), pairs)
        for side, values in zip(("chosen", "rejected"), expected, strict=True):
            assert rated[f"{side}_{name}"].to_list() == pytest.approx(list(values), abs=1e-5)
    made = files.read_provenance(folder / "rated.parquet")
    assert made["stage"] == "rate" and made["from"] == {"stage": "prepare"}
    assert made["models"]["cost"]["digest"] == resolve(folder / "cost").digest
    assert made["params"] == {"dtype": "float32"}
    first = (folder / "rated.parquet").read_bytes()
    assert rate(folder, monkeypatch, capsys, *arguments)[0] == 0
    assert (folder / "rated.parquet").read_bytes() == first


def test_one_model_leaves_the_other_rating_as_it_is(folder, monkeypatch, capsys):
    assert rate(folder, monkeypatch, capsys, "pairs.parquet", "--cost", "cost", "--out", "a.parquet")[0] == 0
    a = read_artefact(folder / "a.parquet", "pairs")
    assert set(schema.RATINGS) & set(a.columns) == {"chosen_cost", "rejected_cost"}
    assert rate(folder, monkeypatch, capsys, "a.parquet", "--reward", "reward", "--out", "b.parquet")[0] == 0
    b = read_artefact(folder / "b.parquet", "pairs")
    assert b.select(a.columns).equals(a) and set(schema.RATINGS) <= set(b.columns)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["pairs.parquet", "--out", "x.parquet"], 2, "--reward MODEL"),
        (["pairs.parquet", "--reward", "nowhere", "--out", "x.parquet"], 1, "no such model"),
        (["none.parquet", "--reward", "reward", "--out", "x.parquet"], 1, "no such file"),
        (["foreign.parquet", "--reward", "reward", "--out", "x.parquet"], 1, "this is no pairs file"),
        (["pairs.parquet", "--reward", "reward", "--out", "pairs.parquet"], 2, "would replace the input"),
        (["pairs.parquet", "--reward", "reward", "--out", "x.csv"], 2, "must name a Parquet file"),
        (["pairs.parquet", "--reward", "reward", "--out", "x.parquet", "--dtype", "int8"], 2, "int8"),
        (["long.parquet", "--reward", "reward", "--out", "x.parquet"], 1, "longer than the rating model's context"),
        (["empty.parquet", "--reward", "reward", "--out", "x.parquet"], 1, "no pair to rate"),
    ],
)
def test_a_users_mistake_is_one_message(folder, monkeypatch, capsys, arguments, code, says):
    pairs = many(3)
    pl.DataFrame({"a": [1]}).write_parquet(folder / "foreign.parquet")
    pairs.head(0).write_parquet(folder / "empty.parquet")
    long = [[{"role": "user", "content": "x" * 400}]] * 3
    pairs.with_columns(prompt=pl.Series(long, dtype=schema.MESSAGES)).write_parquet(folder / "long.parquet")
    got, seen = rate(folder, monkeypatch, capsys, *arguments)
    assert (got, says in seen, "Traceback" in seen) == (code, True, False), seen
    if "long" in arguments[0]:
        assert any(f"pair {pair}, " in seen for pair in pairs["pair_id"])
    assert not list(folder.glob("x*"))


def test_ctrl_c_keeps_nothing_and_says_so(folder, monkeypatch, capsys):
    monkeypatch.setattr(Rater, "rate", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    code, seen = rate(folder, monkeypatch, capsys, "pairs.parquet", "--reward", "reward", "--out", "x.parquet")
    assert code == 130 and "no rating is kept" in seen and "what was finished" not in seen
    assert not list(folder.glob("*x.parquet*"))


def test_a_rating_column_of_another_type_is_refused(tmp_path):
    many(3).with_columns(chosen_cost=pl.lit("high")).write_parquet(tmp_path / "p.parquet")
    with pytest.raises(InputError, match="column chosen_cost has the wrong type"):
        read_artefact(tmp_path / "p.parquet", "pairs")


def test_ratings_travel_to_the_weights(tmp_path, monkeypatch, capsys):
    save_model(tmp_path / "model")
    names = list(schema.RATINGS)
    rated = many(40).with_columns(pl.Series(name, range(40), dtype=pl.Float64) * i for i, name in enumerate(names))
    files.write_parquet(rated, tmp_path / "pairs.parquet", {})
    monkeypatch.chdir(tmp_path)
    for step in (
        "score pairs.parquet --model model --engine transformers --out scores.parquet",
        "split scores.parquet --out splits.parquet --length-bins 1",
        "weigh splits.parquet --out weights.parquet",
    ):
        monkeypatch.setattr(sys, "argv", ["curate", *step.split()])
        with pytest.raises(SystemExit) as ended:
            curate.cli.main()
        assert not ended.value.code, capsys.readouterr().err
    weights = read_artefact("weights.parquet", "pairs", "scores", "splits", "weights")
    assert weights.select(names).equals(rated.select(names))
