"""C is compiled once, where it runs; and where it cannot be, that is no fault."""

import signal
import stat
import subprocess
import sys

import pytest

from curate.base import native

GOOD = "int seven(void) { return 7; }\n"


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A C file, in a place with a cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(native.VARIABLE, raising=False)
    path = tmp_path / "seven.c"
    path.write_text(GOOD)
    native.load.cache_clear()
    yield path
    native.load.cache_clear()


def kept(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").rglob("*"))


def test_it_is_compiled_once_and_again_when_the_code_changes(source, tmp_path, monkeypatch):
    assert native.load(source).seven() == 7
    (folder, first) = kept(tmp_path)
    assert folder == "curate" and stat.S_IMODE((tmp_path / "cache/curate").stat().st_mode) == 0o700
    monkeypatch.setattr(native, "_compile", None)  # would fail
    native.load.cache_clear()
    assert native.load(source).seven() == 7
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source.write_text(GOOD.replace("7", "8"))
    native.load.cache_clear()
    assert native.load(source).seven() == 8
    assert len(kept(tmp_path)) == 3 and first in kept(tmp_path)


@pytest.mark.parametrize("compiler", ["", "no-such-compiler", "false"])
def test_without_a_compiler_there_is_no_library(compiler, source, tmp_path, monkeypatch):
    monkeypatch.setenv(native.VARIABLE, compiler)
    assert native.load(source) is None
    assert not [name for name in kept(tmp_path) if name != "curate"]


def test_what_does_not_compile_leaves_nothing_behind(source, tmp_path):
    source.write_text("this is no C\n")
    assert native.load(source) is None
    assert kept(tmp_path) == ["curate"]


@pytest.mark.parametrize("broken", ["a file in the folder's place", "a library that is none", "cut short", "zeros"])
def test_a_cache_that_cannot_be_used_is_done_without(broken, source, tmp_path):
    folder = tmp_path / "cache/curate"
    folder.parent.mkdir()
    if broken.startswith("a file"):
        folder.write_text("")
    else:
        folder.mkdir()
        assert native.load(source).seven() == 7
        native.load.cache_clear()
        (library,) = folder.iterdir()
        whole = library.read_bytes()
        cut = {"cut short": whole[:-2000], "zeros": whole[:4096] + bytes(4096) + whole[8192:]}  # either crashes
        library.unlink()
        library.write_bytes(cut.get(broken, b"no library"))
    assert native.load(source).seven() == 7
    assert broken.startswith("a file") or len(kept(tmp_path)) == 2


def test_a_kill_while_it_is_compiled_leaves_nothing_for_long(source, tmp_path, monkeypatch):
    compiler = tmp_path / "compiler"
    compiler.write_text(f"""#!/bin/sh
[ -e {tmp_path}/killed ] || {{ touch {tmp_path}/killed; kill -9 $PPID; }}
exec cc "$@"
""")
    compiler.chmod(0o755)
    monkeypatch.setenv(native.VARIABLE, str(compiler))
    code = "import sys, pathlib; from curate.base import native; native.load(pathlib.Path(sys.argv[1]))"
    assert subprocess.run([sys.executable, "-c", code, source]).returncode == -signal.SIGKILL
    assert native.load(source).seven() == 7
    assert [name.rpartition(".")[2] for name in kept(tmp_path)] == ["curate", "so"]
