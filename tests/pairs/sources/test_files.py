"""Reading files: what they hold decides, and every broken one is an error that says where."""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import pickle
import re
import tracemalloc
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.base import limits
from curate.base.errors import InputError
from curate.pairs.sources.base import Unreadable
from curate.pairs.sources.choosing import choose
from curate.pairs.sources.files import open_file, read_file

ROWS = [{"prompt": "Q\u2028é", "chosen": 'a,"b"\nc', "rejected": "d"}, {"prompt": "R", "chosen": "e", "rejected": "f"}]
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)


def write(path, data):
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps(ROWS, indent=1)),
        ("array.jsonl", json.dumps(ROWS)),
        ("a.jsonl", LINES),
        ("lines.json", LINES + "\n\n"),
        ("crlf.jsonl", LINES.replace("\n", "\r\n")),
        ("bom.jsonl", "\ufeff" + LINES),
        ("bom.json", "\ufeff" + json.dumps(ROWS)),
        ("no_suffix", LINES),
    ],
)
def test_json_by_content(tmp_path, name, text, zipped):
    data = gzip.compress(text.encode()) if zipped else text
    assert read_file(write(tmp_path / (name + ".gz" * zipped), data)) == ROWS


def test_gzip_is_found_without_its_suffix(tmp_path):
    assert read_file(write(tmp_path / "a.jsonl", gzip.compress(LINES.encode()))) == ROWS


@pytest.mark.parametrize("zipped", [False, True])
def test_csv_and_parquet(tmp_path, zipped):
    plain = tmp_path / "a.csv"
    with plain.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ROWS[0])
        writer.writeheader()
        writer.writerows(ROWS)
    pl.DataFrame(ROWS).write_parquet(tmp_path / "a.parquet")
    for path in (plain, tmp_path / "a.parquet"):
        if zipped:
            path = write(path.with_name(path.name + ".gz"), gzip.compress(path.read_bytes()))
        assert read_file(path) == ROWS


def fault(path) -> str:
    with pytest.raises(InputError) as error:
        read_file(path)
    assert error.value.details["file"] == str(path)
    return str(error.value)


def test_missing_folder_and_empty(tmp_path):
    assert "no such file" in fault(tmp_path / "none.json")
    assert "folder" in fault(tmp_path)
    for name, data in {
        "a.json": "",
        "b.csv": " \n",
        "c.jsonl.gz": gzip.compress(b""),
        "d.parquet": "",
        "e.gz": "",
    }.items():
        assert "empty" in fault(write(tmp_path / name, data))
    assert "no rows" in fault(write(tmp_path / "a.json", "[]"))
    assert "no rows" in fault(write(tmp_path / "a.csv", "prompt,chosen,rejected\n"))


def test_bad_lines_and_elements_are_named(tmp_path):
    text = fault(write(tmp_path / "a.jsonl", LINES + '\n\n{"prompt": \n'))
    assert "line 4 is not JSON" in text
    assert ", row 2" in text
    assert ", row 1" in fault(write(tmp_path / "a.json", '[{"a": 1}, {"a": }]'))
    assert ", row 1" in fault(write(tmp_path / "b.json", json.dumps(ROWS)[:-20]))
    assert "line 1 is not JSON" in fault(write(tmp_path / "c.json", "plain words"))
    assert "deep" in fault(write(tmp_path / "d.json", "[" * 200_000))


def test_bad_gzip(tmp_path):
    whole = gzip.compress(f"{LINES}\n".encode() * 50)
    assert "truncated or damaged" in fault(write(tmp_path / "a.jsonl.gz", whole[:-20]))
    assert "truncated or damaged" in fault(write(tmp_path / "b.jsonl.gz", whole[:15] + b"\0\1\2" + whole[18:]))
    assert "not gzipped" in fault(write(tmp_path / "c.jsonl.gz", LINES))


def test_not_what_the_name_says(tmp_path):
    assert "Parquet" in fault(write(tmp_path / "a.parquet", LINES))
    assert "a PNG image" in fault(write(tmp_path / "a.csv", b"\x89PNG\r\n\x1a\n\0\0"))
    for name in ("utf-16", "utf-16le", "utf-16be", "utf-32"):  # (the little and the big end have no mark in front)
        for text in (LINES, "prompt,chosen\nQ,A\n", f"{LINES}\n" * 50_000):
            assert f"`iconv -f {name} " in fault(write(tmp_path / "b.csv", text.encode(name)))
    assert "binary" in fault(write(tmp_path / "c.csv", b"a,b\0,c\n"))
    for name in ("d.jsonl", "d.json"):
        assert "a zero byte in line 3" in fault(write(tmp_path / name, LINES + '\n{"a": "b\0"}\n{}\n'))
    assert "what kind of file" in fault(write(tmp_path / "a.txt", "plain words"))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("make", "what", "remedy"),
    [
        (bz2.compress, "bzip2", "bunzip2"),
        (lzma.compress, "an xz-", "unxz"),
        (lambda data: pa.compress(data, "lz4", asbytes=True), "an lz4-", "unlz4"),
        (pickle.dumps, "a pickle", "may run code"),
        (lambda data: b"PARE" + data + b"PARE", "encrypted Parquet", "without encryption"),
        (lambda _: as_arrow(pa.ipc.new_stream), "an Arrow stream", "open_stream"),
        (lambda _: as_arrow(pa.ipc.new_file), "an Arrow file", "open_file"),
        (lambda data: gzip.compress(gzip.compress(data)), "a gzipped file in a compressed one", "once"),
        (lambda data: gzip.compress(pa.compress(data, "zstd", asbytes=True)), "file in a compressed one", "once"),
        (lambda data: f"{'a.json':\0<257}ustar".encode() + data, "a tar archive", "tar -xf"),
    ],
)
def test_a_kind_that_is_not_read_is_named_with_what_to_do(tmp_path, make, what, remedy, packed):
    data = make(LINES.encode())
    text = fault(write(tmp_path / "a.jsonl", gzip.compress(data) if packed else data))
    assert what in text and remedy in text.split("remedy:")[1]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet", "a.jsonl.gz", "a.csv.zst"])
def test_what_stands_in_for_a_file_is_named_whatever_it_is_called(tmp_path, name):
    pointer = write(tmp_path / name, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    assert "Git LFS" in (text := fault(pointer)) and "git lfs pull" in text
    if "." not in name.removeprefix("a."):
        assert "a page of the web" in fault(write(tmp_path / name, "\n<!DOCTYPE html>\n<html>"))


def test_a_line_that_is_cut_off_is_told_in_plain_words(tmp_path):
    said = fault(write(tmp_path / "a.jsonl", LINES + '\n{"a": "'))
    assert "found: Unterminated string starting at character 7\n" in said


@pytest.mark.parametrize("name", ["PARENT", "ORCID", "ARROW1", "Objects", "BZh9"])
def test_a_column_s_name_may_begin_as_other_kinds_do(tmp_path, name):
    assert read_file(write(tmp_path / "a.csv", f"{name},b\n1,2\n")) == [{name: "1", "b": "2"}]


def as_arrow(writer) -> bytes:
    table, sink = pa.Table.from_pylist(ROWS), io.BytesIO()
    with writer(sink, table.schema) as into:
        into.write_table(table)
    return sink.getvalue()


def test_not_utf8_names_byte_and_line(tmp_path):
    text = fault(write(tmp_path / "a.jsonl", b'{"a": 1}\n{"a": "caf\xe9"}\n'))
    assert "0xe9 at offset 19, line 2" in text


PRETTY = "\n".join(json.dumps(row, indent=2) for row in ROWS)


@pytest.mark.parametrize(
    "text",
    [
        PRETTY,
        json.dumps({"data": ROWS}),
        json.dumps({"version": 1, "data": ROWS, "note": ["x"]}, indent=1),
        json.dumps({"anything": ROWS}, indent=1),
    ],
)
def test_objects_over_several_lines_and_around_the_rows(tmp_path, text):
    assert read_file(write(tmp_path / "a.json", text)) == ROWS


def test_one_object_is_one_row_unless_it_holds_the_rows(tmp_path):
    for row in (ROWS[0], {"messages": [{"role": "user", "content": "Q"}]}, {"a": ROWS, "b": 1}):
        assert read_file(write(tmp_path / "a.json", json.dumps(row, indent=1))) == [row]
    tables = [{"train": ROWS, "test": ROWS}]  # a suite may read such a file; it is no file of pairs
    assert read_file(write(tmp_path / "a.json", json.dumps(tables[0]))) == tables
    with pytest.raises(InputError, match="several lists of rows"):
        choose("auto", tables, "a.json")
    text = fault(write(tmp_path / "a.json", PRETTY + '\n{"a":\n}'))
    assert "row 2" in text
    assert "row 2" in fault(write(tmp_path / "a.json", PRETTY + "\n]\nmore"))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst", "a.ndjson.zst"])
def test_zstandard(tmp_path, name):
    packed = pa.compress(LINES.encode(), "zstd", asbytes=True)
    assert read_file(write(tmp_path / name, packed)) == ROWS
    assert "truncated or damaged" in fault(write(tmp_path / name, packed[:6] + b"no zstandard"))
    assert "not zstandard" in fault(write(tmp_path / "b.zst", LINES))


def test_tsv(tmp_path):
    assert read_file(write(tmp_path / "a.tsv", "prompt\tchosen\nQ, R\ta")) == [{"prompt": "Q, R", "chosen": "a"}]


def test_a_cell_is_its_text_whatever_that_begins_as(tmp_path):
    cells = {"chosen": '[{"role": "user", "content": "Q"}]', "rejected": '{"value": 3}', "note": "[1] is a footnote"}
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([cells, cells.values()])
    assert read_file(tmp_path / "a.csv") == [cells]


@pytest.mark.parametrize("array", [False, True])
def test_a_row_nested_too_deeply_is_one_row(tmp_path, array):
    deep = '{"x": ' + "[" * 5000 + '"]\\""' + "]" * 5000 + "}"
    rows = [json.dumps(ROWS[0]), deep, json.dumps(ROWS[1])]
    text = f"[{','.join(rows)}]" if array else "\n".join(rows)
    records = read_file(write(tmp_path / "a.json", text))
    assert [records[0], records[2]] == ROWS
    assert (type(records[1]), str(records[1])) == (Unreadable, deep)


@pytest.mark.parametrize("layout", ["lines", "array", "several lines"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_row_in_which_a_field_stands_twice_is_one_row(tmp_path, layout, nested):
    twice = '{"chosen": "a", "chosen": "c"}'
    twice = f'{{"prompt": [{twice}]}}' if nested else twice
    rows = [json.dumps(ROWS[0]), twice, json.dumps(ROWS[1])]
    text = {
        "lines": "\n".join(rows),
        "array": f"[{','.join(rows)}]",
        "several lines": "\n".join(["{", rows[0][1:], *rows[1:]]),
    }
    records = read_file(write(tmp_path / "a.json", text[layout]))
    assert [records[0], records[2]] == ROWS
    assert (type(records[1]), str(records[1])) == (Unreadable, twice)
    assert records[1].found == "an object with a field that stands twice (chosen)"


def test_a_number_of_5000_digits_is_text(tmp_path):
    digits = "1" * 5000
    assert read_file(write(tmp_path / "a.jsonl", f'{{"n": {digits}, "m": 7}}')) == [{"n": digits, "m": 7}]
    (twice,) = read_file(write(tmp_path / "a.jsonl", f'{{"m": 1, "n": {digits}, "m": 7}}'))
    assert twice.found == "an object with a field that stands twice (m)"


def test_points_in_time_that_python_cannot_hold(tmp_path):
    days, moments = pl.Series([0, 2_000_000_000, None], dtype=pl.Int32), pl.Series([0, 2**62, -(2**62)])
    frame = pl.DataFrame(
        {
            "prompt": ["a", "b", "c"],
            "day": days.cast(pl.Date),
            "at": moments.cast(pl.Datetime("us", "UTC")),
            "long": moments.cast(pl.Duration("ms")),
            "nested": pl.DataFrame({"day": days.cast(pl.Date)}).to_struct(),
        }
    )
    frame.write_parquet(tmp_path / "a.parquet")
    rows = read_file(tmp_path / "a.parquet")
    assert [row["prompt"] for row in rows] == ["a", "b", "c"]
    assert [row["day"] for row in rows] == [date(1970, 1, 1), "2000000000", None]
    assert [str(row["at"]) for row in rows] == ["1970-01-01 00:00:00+00:00", str(2**62), str(-(2**62))]
    assert [row["nested"]["day"] for row in rows] == [0, 2_000_000_000, None]


def test_what_stands_beside_a_point_in_time_stays_what_it_is(tmp_path):
    """A decimal and a word of a list are numbers underneath; a column's name may say a time, too."""
    word = pa.dictionary(pa.int32(), pa.string())
    parts = {"score": pa.decimal128(4, 1), "role": word, "Date": pa.string(), "day": pa.date32()}
    row = {"score": Decimal("8.5"), "role": "user", "Date": "now", "day": date(2020, 1, 1)}
    one, far = pa.struct(parts.items()), pa.map_(pa.string(), pa.date32())
    columns = {
        "one": pa.array([row], one),
        "some": pa.array([[row]], pa.list_(one)),
        "two": pa.array([[row, row]], pa.list_(one, 2)),
        "far": pa.array([[("a", 3_000_000)]], far),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    held = row | {"day": 18_262}
    wanted = {"one": held, "some": [held], "two": [held, held], "far": {"a": 3_000_000}}
    assert read_file(tmp_path / "a.parquet") == [wanted]


def test_points_in_time_in_nanoseconds(tmp_path):
    """As pandas has them; every 64-bit number of them is within Python's years."""
    moments = pl.Series([1_500, -(2**63), 2**63 - 1, None])
    frame = pl.DataFrame({"at": moments.cast(pl.Datetime("ns")), "long": moments.cast(pl.Duration("ns"))})
    frame.write_parquet(tmp_path / "a.parquet")
    rows = read_file(tmp_path / "a.parquet")
    assert [str(row["at"])[:10] for row in rows] == ["1970-01-01", "1677-09-21", "2262-04-11", "None"]
    assert [row["long"] and row["long"].days for row in rows] == [0, -106_752, 106_751, None]


def test_keys_that_differ_and_nulls_within_objects_stay_as_they_are(tmp_path):
    rows = [{"prompt": "Q", "x": [None, ["a"], {"k": None}]}, {"prompt": "R", "x": {"other": 1}}]
    assert read_file(write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))) == rows
    assert read_file(write(tmp_path / "a.json", json.dumps(rows))) == rows
    turns = [{"role": "user", "content": "Q", "name": "a"}, {"role": "assistant", "content": "b"}]
    pl.DataFrame({"chosen": [turns]}).write_parquet(tmp_path / "a.parquet")
    assert read_file(tmp_path / "a.parquet") == [{"chosen": [turns[0], turns[1] | {"name": None}]}]


def test_what_may_never_end_and_what_unpacks_to_far_more(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert "this is a pipe" in fault(tmp_path / "pipe.jsonl")
    assert "this is a device" in fault(Path("/dev/zero"))
    assert limits.read_bytes("/proc/self/status").startswith(b"Name:")  # whose size is not told
    monkeypatch.setattr(limits, "SMALL", 1000)
    blank = b" " * 2_000_000
    for packed in (gzip.compress(blank), pa.compress(blank, "zstd", asbytes=True)):
        assert "CURATE_INPUT_LIMIT" in fault(write(tmp_path / "a.jsonl", packed))
    nulls = pl.DataFrame({"prompt": pl.repeat(None, 300_000, eager=True)})
    nulls.write_parquet(tmp_path / "nulls.parquet")
    assert "300,000 rows" in fault(tmp_path / "nulls.parquet")
    monkeypatch.setattr(limits, "SMALL", 2**26)
    assert "200,000 rows" in fault(write(tmp_path / "n.jsonl", gzip.compress(b"null\n" * 200_000)))
    monkeypatch.setenv("CURATE_INPUT_LIMIT", "1GB")
    assert len(read_file(tmp_path / "nulls.parquet")) == 300_000


def test_truncated_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame(ROWS).write_parquet(path)
    whole = path.read_bytes()
    assert "truncated or damaged" in fault(write(path, whole[: len(whole) // 2]))
    assert "truncated or damaged" in fault(write(path, whole[:6]))


def test_ragged_csv(tmp_path):
    text = fault(write(tmp_path / "a.csv", "prompt,chosen,rejected\na,b,c\na,b,c,d\n"))
    assert ", row 1" in text
    assert "line 3" in text
    assert "twice" in fault(write(tmp_path / "b.csv", "a,a\n1,2\n"))
    assert "is not CSV" in fault(write(tmp_path / "c.csv", 'a,b\n"open,2\n'))


@pytest.mark.parametrize(
    ("name", "text", "found", "remedy"),
    [
        ("a.csv", "prompt;chosen\na;b\n", "semicolons", "separator=';'"),
        ("a.csv", '"prompt"\tchosen\na\tb', "tabs", ".tsv"),
        ("a.tsv", "prompt,chosen,rejected\na,b,c\n", "commas", ".csv"),
        ("a.csv", "sep=,\nprompt,chosen\na,b\n", "sep=,", "take that line out"),
        ("a.csv", "sep=;\r\nprompt;chosen\r\na;b", "sep=;", "take that line out"),
    ],
)
def test_a_table_of_another_separator_says_so(tmp_path, name, text, found, remedy):
    said = fault(write(tmp_path / name, text))
    assert f"found: {found}" in said and remedy in said


def test_what_remedies_convert_keeps_every_letter_and_digit(tmp_path):
    path = write(tmp_path / "a.csv", "prompt;chosen\n„ü“;007\n".encode("cp1252"))
    encoding = re.search(r"`iconv -f (\w+) -t utf-8`", fault(path))[1]
    path.write_bytes(path.read_bytes().decode(encoding).encode())
    convert = re.search(r"`(polars.*)`", fault(path))[1].replace("FILE", repr(str(path)))
    eval(convert.replace("'a.csv'", repr(str(path))), {"polars": pl})
    assert read_file(path) == [{"prompt": "„ü“", "chosen": "007"}]


def test_one_column_is_a_table(tmp_path):
    assert read_file(write(tmp_path / "a.csv", "prompt\na; b\tc\n")) == [{"prompt": "a; b\tc"}]
    assert read_file(write(tmp_path / "b.csv", "Is it a; b?\nc\n")) == [{"Is it a; b?": "c"}]
    assert "no rows" in fault(write(tmp_path / "c.csv", "prompt"))


def test_parquet_columns_that_cannot_be_read_are_named_and_no_damage(tmp_path):
    pq.write_table(pa.table([["a"], ["b"], ["c"]], names=["prompt", "chosen", "chosen"]), tmp_path / "a.parquet")
    assert "a column name stands twice" in (said := fault(tmp_path / "a.parquet")) and "chosen" in said
    number = pa.array([Decimal(1)], type=pa.decimal256(60, 2))
    pq.write_table(pa.table({"prompt": ["a"], "cost": number}), tmp_path / "b.parquet")
    assert ", cost" in (said := fault(tmp_path / "b.parquet")) and "decimal256(60, 2)" in said
    for kind, key in ((pa.binary(), b"k"), (pa.date32(), 3)):
        maps = pa.array([[[(key, "v")]]], type=pa.list_(pa.map_(kind, pa.string())))
        pq.write_table(pa.table({"prompt": ["Q"], "beside": maps}), tmp_path / "c.parquet")
        assert ", beside" in (said := fault(tmp_path / "c.parquet")) and "map<" in said
    texts = pa.array([[(1, "v")]], type=pa.map_(pa.int64(), pa.string()))
    pq.write_table(pa.table({"prompt": texts}), tmp_path / "d.parquet")
    assert read_file(tmp_path / "d.parquet") == [{"prompt": {1: "v"}}]
    pl.DataFrame({"id": [2**100]}, schema={"id": pl.Int128}).write_parquet(tmp_path / "c.parquet")
    assert "a type that is not read" in (said := fault(tmp_path / "c.parquet")) and "64 bits" in said


def test_a_folder_says_what_to_name(tmp_path):
    assert "name a file in it" in fault(tmp_path)
    for name, remedy in (("b.parquet", "name a file in it"), ("a.parquet", "read_parquet('FOLDER/*.parquet')")):
        write(tmp_path / name, "")
        assert remedy in fault(tmp_path)
    for name, remedy in (
        ("dataset_info.json", "read_parquet"),
        ("state.json", "load_from_disk(FOLDER).to_parquet"),
        ("dataset_dict.json", "load_from_disk(FOLDER)['train']"),
    ):
        write(tmp_path / name, "{}")
        assert remedy in fault(tmp_path)


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet"])
def test_lines_and_parquet_are_read_in_blocks_as_often_as_wanted(tmp_path, kind):
    """10,000 rows of 1 kB would be 10 MB and more."""
    rows = [{"prompt": f"{n}", "chosen": "x" * 500, "rejected": "y" * 500} for n in range(10_000)]
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pl.DataFrame(rows).write_parquet(path)
    else:
        lines = "\n".join(map(json.dumps, rows)).encode()
        write(path, gzip.compress(lines, 1) if kind.endswith("gz") else lines)
    records = open_file(path)
    tracemalloc.start()
    try:
        assert all(record == row for record, row in zip(records, rows, strict=True))
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()
    assert next(iter(records)) == rows[0] and sum(1 for _ in records) == 10_000


def test_a_file_that_changes_while_it_is_read_is_told(tmp_path):
    records = open_file(write(tmp_path / "a.jsonl", LINES))
    assert list(records) == ROWS
    write(tmp_path / "a.jsonl", LINES + "\n" + LINES)
    with pytest.raises(InputError, match="changed while it was read"):
        list(records)
