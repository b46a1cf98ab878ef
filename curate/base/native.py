"""C of this package, compiled on the machine that runs it, once. [ours]

Where there is no C compiler, whoever asks has another way that needs none: it is slower.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from curate.base.errors import OutputError
from curate.base.files import replacing

VARIABLE = "CURATE_CC"
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=gnu11", "-O3", "-fno-math-errno", "-shared", "-fPIC")
THIS_PROCESSOR = ("-march=native", "-mcpu=native")  # the first that the compiler knows
KINDS = {"p": ctypes.c_void_p, "i": ctypes.c_int64, "f": ctypes.c_float}  # of arguments
LONGEST = 120  # seconds to compile, at most
MISSING = f"no C compiler ({', '.join(COMPILERS)}; {VARIABLE}): attention on a CPU takes more than twice as long"


def compiler() -> str | None:
    """The command that compiles C: CURATE_CC (empty: none), else CC, else the first of COMPILERS that is there."""
    given = os.environ.get(VARIABLE)
    commands = [given] if given is not None else [os.environ.get("CC", ""), *COMPILERS]
    return next((each for each in commands if each.strip() and shutil.which(shlex.split(each)[0])), None)


def functions(source: Path, declared: Mapping[str, str], *, fused: bool = True) -> Any:
    """`load`, with its functions declared: of each name what it takes, a letter of KINDS an argument. A function of C
    that returns nothing gives a number without meaning."""
    library = load(source, fused=fused)
    for name, takes in declared.items() if library is not None else ():
        getattr(library, name).argtypes = [KINDS[kind] for kind in takes]
    return library


@cache
def load(source: Path, *, fused: bool = True) -> ctypes.CDLL | None:
    """The library of one C file; None where it cannot be compiled.

    It is kept in the user's cache folder, named by the digest of all that it depends on; where that cannot be used,
    for this process alone.

    Args:
        fused: a product and a sum may be one step, which is rounded once.
    """
    command = compiler()
    if command is None:
        return None
    command = f"{command} {' '.join(FLAGS)} -ffp-contract={'fast' if fused else 'off'}"
    name = f"{source.stem}-{_digest(source, command)}.so"
    try:
        folder = _cache_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _loaded(command, source, folder / name)
    except subprocess.SubprocessError:
        return None
    except (OSError, OutputError, RuntimeError):  # no home; or nothing may be written there, or be run from there
        pass
    try:
        with tempfile.TemporaryDirectory(prefix="curate-") as scratch:  # what is loaded outlives its file
            return _loaded(command, source, Path(scratch) / name)
    except (OSError, OutputError, subprocess.SubprocessError):
        return None


def _loaded(command: str, source: Path, library: Path) -> ctypes.CDLL:
    if not _is_whole(library):
        with replacing(library) as made:
            _compile(command, source, made)
            content = made.read_bytes()
            made.write_bytes(content + hashlib.sha256(content).digest())  # a loader does not look behind its end
    return ctypes.CDLL(str(library))


def _is_whole(library: Path) -> bool:
    """Whether it is there and has its own digest at its end: a process that loads a part of one crashes."""
    content = library.read_bytes() if library.is_file() else b""
    end = len(content) - hashlib.sha256().digest_size
    return end > 0 and content[end:] == hashlib.sha256(content[:end]).digest()


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "curate"


def _digest(source: Path, command: str) -> str:
    """Of the code, of the command, and of what the processor can do: machines may share a home."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    abilities = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    parts = (_text(source), command, platform.system(), platform.machine(), abilities)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _text(source: Path) -> str:
    """Of the file and of those that it includes by their place."""
    text = source.read_text(encoding="utf-8")
    return text + "".join(_text(source.parent / name) for name in re.findall(r'^#include "(.+)"', text, re.M))


def _compile(command: str, source: Path, target: Path) -> None:
    """Raises `subprocess.SubprocessError` where it does not compile, `OSError` where the compiler cannot be run."""
    for processor in THIS_PROCESSOR:
        arguments = [*shlex.split(command), processor, "-o", str(target), str(source), "-lm"]
        done = subprocess.run(arguments, capture_output=True, timeout=LONGEST)
        if done.returncode == 0:
            break
    done.check_returncode()
