"""Reading files: what they hold decides, and every broken one is an error that says where."""

import csv
import gzip
import json

import polars as pl
import pytest

from curate.base.errors import InputError
from curate.pairs.sources.files import read_file

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
    whole = gzip.compress(LINES.encode() * 50)
    assert "truncated or damaged" in fault(write(tmp_path / "a.jsonl.gz", whole[:-20]))
    assert "truncated or damaged" in fault(write(tmp_path / "b.jsonl.gz", whole[:15] + b"\0\1\2" + whole[18:]))
    assert "not gzipped" in fault(write(tmp_path / "c.jsonl.gz", LINES))


def test_not_what_the_name_says(tmp_path):
    assert "Parquet" in fault(write(tmp_path / "a.parquet", LINES))
    assert "a PNG image" in fault(write(tmp_path / "a.csv", b"\x89PNG\r\n\x1a\n\0\0"))
    assert "UTF-16" in fault(write(tmp_path / "b.csv", LINES.encode("utf-16")))
    assert "binary" in fault(write(tmp_path / "c.csv", b"a,b\0,c\n"))
    assert "what kind of file" in fault(write(tmp_path / "a.txt", "plain words"))


def test_not_utf8_names_byte_and_line(tmp_path):
    text = fault(write(tmp_path / "a.jsonl", b'{"a": 1}\n{"a": "caf\xe9"}\n'))
    assert "0xe9 at offset 19, line 2" in text


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
