"""Draw inputs, read each within a time, and count what came of it."""

from __future__ import annotations

import collections
import gc
import random
import shutil
import signal
import tempfile
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from curate.base.errors import CurateError
from curate.base.progress import console
from fuzz.readers import readers

SECONDS = 60  # for one input
LONGEST = 8000  # characters of a message


class Fault(NamedTuple):
    """An input that was neither read nor refused; (seed, number) make it again."""

    reader: str
    number: int
    signature: str  # the exception, and where in curate it came up


class Count(NamedTuple):
    read: collections.Counter[str]
    refused: collections.Counter[str]
    faults: list[Fault]


class Hang(BaseException):
    """An input that took longer than SECONDS."""


def _alarm(*_: Any) -> None:
    raise Hang(f"more than {SECONDS} s")


def fuzz(inputs: int, seed: int = 0, only: str | None = None, first: int = 0) -> Count:
    """Give the readers `inputs` damaged inputs, those numbered from `first` on."""
    import transformers  # noqa: F401  (its first import is no input's time)

    import curate.models.load  # noqa: F401

    count = Count(collections.Counter(), collections.Counter(), [])
    before, quiet = signal.signal(signal.SIGALRM, _alarm), console.quiet
    console.quiet = True
    try:
        with tempfile.TemporaryDirectory(prefix="curate-fuzz-") as top:
            known = readers(Path(top))
            names = [name for name, (_, share) in known.items() for _ in range(share) if only in (None, name)]
            for number in range(first, first + inputs):
                draw = random.Random(f"{seed} {number}")
                name = draw.choice(names)
                folder = Path(top) / "input"
                folder.mkdir()
                try:
                    _one(name, known[name][0], draw, folder, number, count)
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        console.quiet = quiet
    gc.collect()
    return count


def _one(name: str, reader: Any, draw: random.Random, folder: Path, number: int, count: Count) -> None:
    signal.alarm(SECONDS)
    try:
        reader(draw, folder)
        count.read[name] += 1
    except CurateError as error:
        count.refused[name] += 1
        if len(str(error)) > LONGEST:
            count.faults.append(Fault(name, number, f"a message of {len(str(error)):,} characters"))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f"{Path(f.filename).name}:{f.lineno}" for f in frames if "/curate/" in f.filename][-2:]
        said = " ".join(str(error).split())[:150]
        count.faults.append(Fault(name, number, f"{type(error).__name__}: {said} at {' > '.join(ours)}"))
    finally:
        signal.alarm(0)
