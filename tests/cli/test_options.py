"""What a command's outputs may replace."""

import json

import pytest
import typer
from command import curate

from curate import cli
from curate.base.errors import OutputError, UsageError
from curate.cli.options import check_beside, with_keys
from curate.project.params import LARGEST_SEED, DataParams, TrainParams, check


@pytest.mark.parametrize(
    ("value", "ours"),
    [
        ({"a": 1, "b": 2, "c": 3}, True),
        ([], True),
        ([{"a": 1, "b": 2}] * 2, True),
        ({"a": 1}, False),
        ([{"a": 1, "b": 2}, 3], False),
        ("a b", False),
    ],
)
def test_json_of_ours_is_known_by_its_keys(tmp_path, value, ours):
    path = tmp_path / "a.json"
    assert with_keys("a", "b")(path)
    path.write_text(json.dumps(value))
    assert with_keys("a", "b")(path) is ours
    path.write_text("{")
    assert not with_keys("a", "b")(path)


def test_a_link_to_the_input_is_the_input(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.json").symlink_to("a.json")
    with pytest.raises(UsageError, match="would replace the input"):
        check_beside(tmp_path / "b.json", tmp_path / "a.json", with_keys())


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("out.json", "compare . --out out.json"),
        ("out.json", "agreement labels.json --judge refusals --out out.json"),
        ("publish.json", "publish weights.parquet --repo o/n"),
        ("report/index.html", "report --weights weights.parquet"),
        ("report/metrics.json", "report --weights weights.parquet"),
        ("scores.rejects.parquet", "score pairs.parquet --model model"),
    ],
)
def test_no_command_replaces_a_file_that_is_not_ours(tmp_path, monkeypatch, name, call):
    """Each is refused before anything is read."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"mine": 1}')
    with pytest.raises(OutputError, match="a file that curate did not write") as caught:
        curate(*call.split())
    assert caught.value.details["file"] == name and path.read_text() == '{"mine": 1}'


def _options(command, *above):
    """(Words of the command, option) of a command and of those below it."""
    for each in getattr(command, "commands", {}).values():
        yield from _options(each, *above, each.name)
    yield from ((above, option) for option in command.params)


def test_a_number_of_a_command_has_both_bounds():
    """Those of its own; params have theirs."""
    ranges = [(words, one) for words, one in _options(typer.main.get_command(cli.app)) if one.min is not None]
    assert len(ranges) > 10 and not [(words, one.name) for words, one in ranges if one.max is None]
    seeds = {words[0]: one.max for words, one in ranges if "seed" in one.name}
    assert seeds == dict.fromkeys(("train", "judge", "reference"), LARGEST_SEED)


@pytest.mark.parametrize("section", [{"seed": 2**32}, {"seeds": [2**32]}], ids=str)
def test_the_bound_of_a_seed_is_that_of_params(section):
    with pytest.raises(UsageError) as caught:
        check(DataParams if "seed" in section else TrainParams, section)
    assert str(LARGEST_SEED + 1) in caught.value.details["expected"]
