"""What a command's outputs may replace."""

import json

import pytest
from command import curate

from curate.base.errors import OutputError, UsageError
from curate.cli.options import check_beside, with_keys


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
