"""An output appears whole or not at all, and a failure to write is one clear message."""

import json
import subprocess
import sys
import threading

import polars as pl
import pytest

from curate.base import files
from curate.base.errors import InputError, OutputError
from curate.pairs.artefact import read_artefact

KIND = files.Folder(("marker",), ("one", "two"))


def test_a_failure_inside_leaves_the_old_file_and_nothing_else(tmp_path):
    out = tmp_path / "out.json"
    files.write_json({"a": 1}, out)
    with pytest.raises(RuntimeError), files.replacing(out) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert files.read_json(out) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


def test_a_folder_is_replaced_whole(tmp_path):
    for content in ("one", "two"):
        with files.replacing(tmp_path / "run", KIND) as folder:
            folder.mkdir()
            (folder / "marker").write_text(content)
            (folder / content).write_text(content)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["marker", "two"]
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("relative", [True, False])
def test_a_link_to_a_folder_stays_one(tmp_path, relative):
    (tmp_path / "disk/run").mkdir(parents=True)
    link = tmp_path / "run"
    link.symlink_to("disk/run" if relative else tmp_path / "disk/run")
    for content in ("one", "two"):
        with files.replacing(link, KIND) as folder:
            folder.mkdir()
            (folder / "marker").write_text(content)
        assert link.is_symlink() and (tmp_path / "disk/run/marker").read_text() == content
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["disk", "marker", "run", "run"]


def test_folders_made_for_what_was_not_written_go_again(tmp_path):
    (tmp_path / "kept").mkdir()
    for out in (tmp_path / "kept/out", tmp_path / "new/deep/out", tmp_path / "new/deep/run"):
        with pytest.raises(RuntimeError), files.replacing(out):
            raise RuntimeError
    assert [p.name for p in tmp_path.rglob("*")] == ["kept"]


@pytest.mark.parametrize("out", [".", "", "..", "../work"])
def test_the_working_folder_is_never_replaced(tmp_path, monkeypatch, out):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "marker").write_text("")
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(OutputError, match="working folder"), files.replacing(out, KIND):
        raise AssertionError("the block must not run")
    assert (tmp_path / "work" / "marker").exists()


@pytest.mark.parametrize("theirs", ["notes.txt", "seed-0/marker"])
def test_a_folder_of_ours_with_something_of_the_users_in_it_is_not_replaced(tmp_path, theirs):
    """Their notes, or another run within."""
    out, path = tmp_path / "run", tmp_path / "run" / theirs
    path.parent.mkdir(parents=True)
    path.write_text("theirs")
    (out / "marker").write_text("old")
    (out / "one").write_text("old")
    with pytest.raises(OutputError, match="would lose what it holds") as caught, files.replacing(out, KIND):
        raise AssertionError("the block must not run")
    assert caught.value.details["found"] == theirs.split("/")[0] and path.read_text() == "theirs"


@pytest.mark.parametrize("at_once", [True, False])
def test_what_comes_into_a_folder_while_it_is_made_anew_is_kept(tmp_path, monkeypatch, at_once):
    if not at_once:
        monkeypatch.setattr(files, "_exchanged", lambda *_: False)
    for content in ("one", "two"):
        with files.replacing(tmp_path / "run", KIND) as folder:
            folder.mkdir()
            (folder / "marker").write_text(content)
            if content == "two":
                (tmp_path / "run" / "notes.txt").write_text("theirs")
    assert {path.name: path.read_text() for path in (tmp_path / "run").iterdir()} == {
        "marker": "two",
        "notes.txt": "theirs",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_file_where_a_folder_is_needed_is_found_before_anything_is_made(tmp_path):
    (tmp_path / "a").write_text("theirs")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for path, kind, blocking in (("a", KIND, "a"), ("link", KIND, "link"), ("a/b/c", KIND, "a"), ("a/b", None, "a")):
        with pytest.raises(OutputError, match="a file stands where the output needs a folder") as caught:
            files.check_replaceable(tmp_path / path, kind)
        assert caught.value.details["file"] == str(tmp_path / blocking)
    for path, kind in (("a", None), ("b/c", KIND), ("b/c", None)):
        assert files.check_replaceable(tmp_path / path, kind) == tmp_path / path
    assert (tmp_path / "a").read_text() == "theirs"


def test_a_kill_between_two_renames_loses_no_folder(tmp_path):
    """Where the system cannot exchange two folders at once: the next writer puts the old one back, even if it fails."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "marker").write_text("old")
    killed = """
import os, sys
from curate.base import files
files._exchanged = lambda *_: False
files.Path.replace = lambda *_: os.kill(os.getpid(), 9)
with files.replacing(sys.argv[1], files.Folder(("marker",))) as new:
    new.mkdir()
    (new / "marker").write_text("new")
"""
    subprocess.run([sys.executable, "-c", killed, str(tmp_path / "run")], check=False)
    assert not (tmp_path / "run").exists()
    with pytest.raises(RuntimeError), files.replacing(tmp_path / "run", KIND):
        raise RuntimeError
    assert (tmp_path / "run" / "marker").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_writers_of_one_folder_at_once(tmp_path):
    """One after the other: no error, and what stands is one of theirs, whole."""
    write = """
import sys
from curate.base import files
for number in range(60):
    with files.replacing(sys.argv[1], files.Folder(("marker",), ("other",))) as new:
        new.mkdir()
        for name in ("marker", "other"):
            (new / name).write_text(f"{sys.argv[2]} {number}")
"""
    run = [sys.executable, "-c", write, str(tmp_path / "run")]
    writers = [subprocess.Popen([*run, name], stderr=subprocess.PIPE, text=True) for name in "abc"]
    assert [writer.communicate()[1] for writer in writers] == [""] * 3
    assert (tmp_path / "run" / "marker").read_text() == (tmp_path / "run" / "other").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_error_within_names_the_output_not_what_stands_for_it(tmp_path):
    with pytest.raises(OutputError) as caught, files.replacing(tmp_path / "run", KIND) as new:
        raise OutputError("cannot write the output", file=new / "items.parquet")
    assert caught.value.details["file"] == str(tmp_path / "run" / "items.parquet")


def test_the_old_folder_comes_back_when_the_rename_fails(tmp_path, monkeypatch):
    old = tmp_path / "run"
    old.mkdir()
    (old / "marker").write_text("old")
    monkeypatch.setattr(files, "_exchanged", lambda *_: False)
    monkeypatch.setattr(files.Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt), files.replacing(old, KIND) as new:
        new.mkdir()
        (new / "marker").write_text("new")
    assert (old / "marker").read_text() == "old"


def test_dvcs_gitignore_is_no_stranger_and_is_kept(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".gitignore").write_text("/model")
    with files.replacing(tmp_path / "run", KIND) as new:
        new.mkdir()
        (new / "marker").write_text("")
    assert (tmp_path / "run" / ".gitignore").read_text() == "/model"


@pytest.mark.parametrize("kind", [None, files.Folder(()), KIND])
def test_a_folder_that_is_not_ours_is_never_replaced(tmp_path, kind):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1").write_text("years of work")
    with pytest.raises(OutputError, match="would lose what it holds"), files.replacing(tmp_path / "thesis", kind):
        raise AssertionError("the block must not run")
    assert (tmp_path / "thesis" / "chapter1").read_text() == "years of work"


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a file stands where the output needs a folder") as caught:
        files.write_json({}, tmp_path / "file" / "out.json")
    assert caught.value.exit_code == 1 and caught.value.details["file"] == str(tmp_path / "file")


@pytest.mark.parametrize("path", ["/proc/out.json", "/proc/none/out.json"])
def test_where_no_file_can_be_made_is_said(path):
    with pytest.raises(OutputError, match="cannot write the output") as caught:
        files.write_json({}, path)
    assert caught.value.details["file"] == path


def test_a_disk_that_takes_no_more_leaves_nothing(tmp_path):
    """A limit on the size of a written file is the full disk that needs no administrator."""
    code = """
import resource, signal, sys
from pathlib import Path
import polars as pl, torch
from safetensors.torch import save_file
from curate.base import files
from curate.base.errors import OutputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
frame = pl.DataFrame({"a": range(200_000)})

def within(write):
    with files.replacing("out") as new:
        write(new)

for limit, write in (
    (4096, lambda: files.write_parquet(frame, "out", {})),
    (100, lambda: files.write_parquet(frame.head(2), "out", {"made": "x" * 600})),
    (4096, lambda: files.write_text("x" * 200_000, "out")),
    (4096, lambda: within(frame.write_csv)),
    (4096, lambda: within(lambda new: save_file({"a": torch.zeros(100_000)}, new))),
):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write()
    except OutputError as error:
        print(str(error).replace(chr(10), " "))
    assert not list(Path().iterdir())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 5 and all("cannot write the output" in line for line in said)
    assert ["File too large" in line for line in said] == [True, "last bytes" not in said[1], True, True, True]


def test_parquet_bytes_are_the_same_twice_and_carry_provenance(tmp_path):
    frame = pl.DataFrame({"a": [1.0, 2.0]})
    for name in ("one", "two"):
        files.write_parquet(frame, tmp_path / name, {"stage": "test", "params": {"alpha": 1.5}})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert files.read_provenance(tmp_path / "one") == {"stage": "test", "params": {"alpha": 1.5}}


def test_what_is_no_artefact_is_refused_with_the_command_that_makes_it(tmp_path):
    path = tmp_path / "scores.parquet"
    with pytest.raises(InputError, match="no such file"):
        read_artefact(path, "pairs")
    path.write_text("not parquet")
    with pytest.raises(InputError, match="not a readable Parquet file"):
        read_artefact(path, "pairs")
    pl.DataFrame({"prompt": ["a"]}).write_parquet(path)
    with pytest.raises(InputError, match="curate prepare") as caught:
        read_artefact(path, "pairs", "scores")
    assert "pair_id" in caught.value.details["found"]
    with pytest.raises(InputError, match="a folder"):
        read_artefact(tmp_path, "pairs")


def test_what_a_killed_writer_left_is_cleared_by_the_next(tmp_path):
    """Its private folder goes when the same output is written again; that of a live writer stays."""
    killed = (
        "import os, sys; from curate.base import files\nwith files.replacing(sys.argv[1]) as t: os.kill(os.getpid(), 9)"
    )
    for name in ("one.txt", "two.txt"):
        subprocess.run([sys.executable, "-c", killed, str(tmp_path / name)], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    with files.replacing(tmp_path / "one.txt") as outer:
        outer.write_text("outer")
        files.write_text("inner", tmp_path / "one.txt")  # another writer of it, meanwhile
        assert outer.exists()
    left = [path.name for path in tmp_path.iterdir()]
    assert (tmp_path / "one.txt").read_text() == "outer"
    assert len(left) == 2 and sum(name.startswith(".two.txt") for name in left) == 1


def test_a_set_of_outputs_is_one_commit_whoever_writes_at_once(tmp_path):
    """Eight writers of three files: what stands afterwards is of one of them."""
    names = [tmp_path / name for name in ("main.json", "rejects.json", "summary.json")]

    def write(run: int) -> None:
        for _ in range(10):
            with files.replacing_together(*names) as new:
                for path in new:
                    files.write_json(run, path)

    writers = [threading.Thread(target=write, args=(run,)) for run in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len({files.read_json(path) for path in names}) == 1
    assert sorted(tmp_path.iterdir()) == sorted(names)


def test_a_set_whose_block_or_rename_fails_is_as_it_was(tmp_path):
    main, other = tmp_path / "main.json", tmp_path / "other.json"
    for path in (main, other):
        files.write_json("old", path)
    with pytest.raises(RuntimeError), files.replacing_together(main, other) as (new, _):
        files.write_json("new", new)
        raise RuntimeError
    with pytest.raises(FileNotFoundError), files.replacing_together(main, other) as new:
        files.write_json("new", new[1])  # and the main one is not made
    assert files.read_json(main) == files.read_json(other) == "old"
    assert sorted(tmp_path.iterdir()) == [main, other]


@pytest.mark.parametrize("ours", [True, False])
def test_of_a_set_what_was_not_made_goes_if_it_is_ours(tmp_path, ours):
    main, other = tmp_path / "main.json", tmp_path / "other.json"
    files.write_json("old", other)
    with files.replacing_together(main, other, ours=lambda _: ours) as (new, _):
        files.write_json("new", new)
    assert files.read_json(main) == "new" and other.exists() != ours


def test_an_error_in_a_set_names_the_real_file(tmp_path):
    with (
        pytest.raises(OutputError) as caught,
        files.replacing_together(tmp_path / "main", tmp_path / "other") as (_, new),
    ):
        new.mkdir()
        (new / "x").write_text("")
        files.write_text("x", new)
    assert caught.value.details["file"] == str(tmp_path / "other")


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, b"\xff\xfe.json".decode("utf-8", "surrogateescape")])
def test_long_names_and_names_of_other_bytes(tmp_path, name):
    files.write_json({"name": name}, tmp_path / name)
    assert files.read_json(tmp_path / name) == {"name": name}
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("value", ["null", "[1]", "3", '"x"', "{", "[" * 100_000, "1" * 5000])
def test_provenance_that_is_none(tmp_path, value):
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "a", metadata={files.PROVENANCE: value})
    assert files.read_provenance(tmp_path / "a") == {}


def test_what_is_gone_is_of_a_run_that_replaces_it(tmp_path):
    assert files.is_ours(tmp_path / "a.parquet")
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "a.parquet")
    assert not files.is_ours(tmp_path / "a.parquet")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "1" * 5000, "\xff"])
def test_what_is_no_json(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text.encode("latin1"))
    with pytest.raises(InputError, match="not a JSON file"):
        files.read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text(json.dumps([1]))
    with pytest.raises(InputError, match="an object"):
        files.read_json_object(tmp_path / "a.json")
