"""`curate prepare` as a person calls it."""

import json
import subprocess
import sys

import polars as pl
import pytest

import curate.cli
from curate.pairs.sources import FORMATS

ROWS = [{"prompt": f"Q{i}", "chosen": "yes", "rejected": "no"} for i in range(8)]


def call(monkeypatch, capsys, *arguments: object) -> tuple[int, str]:
    """Exit code, and what a person sees."""
    monkeypatch.setattr(sys, "argv", ["curate", "prepare", *map(str, arguments)])
    try:
        curate.cli.main()
    except SystemExit as error:
        code = error.code or 0
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "raw.jsonl"
    path.write_text("\n".join(map(json.dumps, [*ROWS, ROWS[0], {**ROWS[1], "prompt": None}])))
    return path


def test_writes_three_files_and_a_table(raw, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out" / "pairs.parquet"
    code, seen = call(monkeypatch, capsys, raw, "--out", out, "--heldout-fraction", 0.25, "--seed", 7)
    assert code == 0
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "pairs.parquet",
        "pairs.prepare.json",
        "pairs.rejects.parquet",
    ]
    pairs = pl.read_parquet(out)
    assert pairs["split"].to_list().count("heldout") == 2
    assert pl.read_parquet(out.with_suffix(".rejects.parquet"))["rule"].to_list() == ["duplicate", "null_prompt"]
    summary = json.loads(out.with_suffix(".prepare.json").read_text())
    assert summary["params"]["data"]["seed"] == 7
    for part in ("format trl (detected)", "read 10 = kept 8 + rejected 2", "rows 8", "rows 9", "6 (6)", "2 (2)"):
        assert part in seen
    assert "Q1" not in seen


def test_what_is_noted_of_pairs_that_are_kept_stands_apart_from_what_was_refused(tmp_path, monkeypatch, capsys):
    rows = [{**ROWS[0], "rejected": f"another {number}"} for number in range(3)]
    (tmp_path / "raw.jsonl").write_text("\n".join(map(json.dumps, [*ROWS, *rows, ROWS[0]])))
    _, seen = call(monkeypatch, capsys, tmp_path / "raw.jsonl", "--out", tmp_path / "pairs.parquet")
    told = [line.split() for line in seen.splitlines()]
    heading = told.index(["kept,", "and", "worth", "knowing:"])
    assert told[heading - 1][0] == "duplicate" and told[heading + 1][0] == "4"


def test_cleaning_options_reach_the_rules(raw, tmp_path, monkeypatch, capsys):
    code, _ = call(monkeypatch, capsys, raw, "--out", tmp_path / "p.parquet", "--duplicates", "keep")
    assert (code, pl.read_parquet(tmp_path / "p.parquet").height) == (0, 9)


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("p.rejects.parquet", 2, "would replace the input"),
        ("p.prepare.json", 2, "would replace the input"),
        ("theirs/p.rejects.parquet", 1, "a file that curate did not write"),
        ("theirs/p.prepare.json", 1, "a file that curate did not write"),
    ],
)
def test_what_goes_beside_the_output_spares_the_input_and_what_is_not_ours(
    raw, tmp_path, monkeypatch, capsys, name, code, says
):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    rows = pl.DataFrame(ROWS)
    rows.write_parquet(path) if path.suffix == ".parquet" else path.write_text(json.dumps(ROWS))
    before = path.read_bytes()
    source = path if code == 2 else raw
    got, seen = call(monkeypatch, capsys, source, "--out", path.parent / "p.parquet")
    assert (got, says in seen, path.read_bytes() == before) == (code, True, True), seen
    assert [left.name for left in path.parent.iterdir() if left.name.startswith("p.")] == [path.name]


def test_an_earlier_result_is_replaced_with_what_is_beside_it(raw, tmp_path, monkeypatch, capsys):
    out = tmp_path / "p.parquet"
    for limit in (5, 6):
        assert call(monkeypatch, capsys, raw, "--out", out, "--limit", limit)[0] == 0
    assert json.loads(out.with_suffix(".prepare.json").read_text())["read"] == 6


def test_fields_and_columns(tmp_path, monkeypatch, capsys):
    path, out = tmp_path / "raw.jsonl", tmp_path / "p.parquet"
    path.write_text("\n".join(json.dumps({"q": f"Q{i}", "a": "yes", "b": "no", "id": i, "tag": "x"}) for i in range(4)))
    names = ("--field", "prompt=q", "--field", "chosen=a", "--field", "rejected=b")
    code, seen = call(monkeypatch, capsys, path, "--out", out, *names, "--keep", "id")
    assert (code, pl.read_parquet(out)["id"].to_list()) == (0, [0, 1, 2, 3])
    assert "columns not used: tag" in seen
    code, seen = call(monkeypatch, capsys, path, "--out", out, "--field", "prompt")
    assert (code, "not OURS=THEIRS" in seen) == (2, True)


def test_labels_of_responses_that_trade_places_are_named_with_what_reads_them(tmp_path, monkeypatch, capsys):
    path, out = tmp_path / "raw.jsonl", tmp_path / "p.parquet"
    row = {"prompt": "Q", "chosen": "no", "rejected": "yes", "chosen_safe": False, "rejected_safe": True}
    path.write_text("\n".join(json.dumps(row | {"prompt": f"Q{i}"}) for i in range(4)))
    turned = ("--field", "chosen=rejected", "--field", "rejected=chosen")
    code, seen = call(monkeypatch, capsys, path, "--out", out, *turned)
    assert (code, pl.read_parquet(out)["chosen_safe"].null_count()) == (0, 4)
    assert "chosen_safe, rejected_safe (--field chosen_safe=chosen_safe reads it)" in seen


def test_faults_are_messages_with_exit_codes(raw, tmp_path, monkeypatch, capsys):
    out = tmp_path / "p.parquet"
    for code, part, arguments in (
        (1, "no such file", ("none.json", "--out", out)),
        (1, ", row 9", (raw, "--out", out, "--strict")),
        (1, "no pair is left", (raw, "--out", out, "--format", "hh")),
        (2, "unknown format", (raw, "--out", out, "--format", "x")),
        (2, "heldout_fraction", (raw, "--out", out, "--heldout-fraction", "1.5")),
        (2, "Parquet file", (raw, "--out", tmp_path)),
        (2, "Parquet file", (raw, "--out", "pairs.json")),
        (2, "would replace the input", (out, "--out", out)),
        (2, "--duplicates", (raw, "--out", out, "--duplicates", "maybe")),
    ):
        got, seen = call(monkeypatch, capsys, *arguments)
        assert (got, part in seen, "Traceback" in seen) == (code, True, False), seen
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw.jsonl"]


def test_the_bound_on_inputs_is_an_option(raw, tmp_path, monkeypatch, capsys):
    out = tmp_path / "p.parquet"
    code, seen = call(monkeypatch, capsys, raw, "--out", out, "--input-limit", "100")
    assert code == 1 and "at most 100 bytes" in seen and "--input-limit 20GB" in seen and not out.exists()
    code, seen = call(monkeypatch, capsys, raw, "--out", out, "--input-limit", "many")
    assert code == 2 and "input_limit" in seen and "such as 20GB" in seen
    assert call(monkeypatch, capsys, raw, "--out", out, "--input-limit", "1 kB")[0] == 0
    limited = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    assert call(monkeypatch, capsys, raw, "--out", out)[0] == 0
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == limited  # it is no part of a result


def test_processes_at_once_leave_the_files_of_one(tmp_path):
    """Each has rows and rejects of its own number: what stands afterwards is of one of them, and nothing beside it."""
    out = tmp_path / "out" / "pairs.parquet"
    runs = []
    for run in range(4):
        rows = [{**row, "chosen": f"yes {run}"} for row in ROWS] + [{**ROWS[0], "prompt": None}] * run
        (tmp_path / f"{run}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        command = [sys.executable, "-m", "curate", "prepare", f"{run}.jsonl", "--out", str(out)]
        runs.append(subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE))
    assert [(run.communicate()[1] and run.returncode) for run in runs] == [0] * 4
    summary = json.loads(out.with_suffix(".prepare.json").read_text())
    run = int(summary["source"][0])
    pairs, rejects = pl.read_parquet(out), pl.read_parquet(out.with_suffix(".rejects.parquet"))
    assert pairs["chosen"].list.first().struct.field("content").unique().to_list() == [f"yes {run}"]
    assert (summary["rejected"], rejects.height) == (run, run)
    assert len(list(out.parent.iterdir())) == 3


def test_help_lists_formats(monkeypatch, capsys):
    code, seen = call(monkeypatch, capsys, "--help")
    assert code == 0
    assert all(f"  {name} " in seen for name in FORMATS)
    assert "--max-pairs-per-prompt" in seen
