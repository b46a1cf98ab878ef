"""How long each stage took when it last ran, kept beside the score store: outside every output, whose bytes a
clock must not change."""

from __future__ import annotations

import json
from pathlib import Path

from curate.base import files, limits
from curate.base.errors import InputError
from curate.base.progress import say


def file() -> Path:
    """Where the notes lie, a line each."""
    return files.state_folder() / "times.jsonl"


def record(stage: str, seconds: float) -> None:
    """Note that `stage` has run. A note that cannot be written is not worth failing for."""
    try:
        path = file()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as notes:  # one line, one write: stages may end at the same time
            notes.write(json.dumps({"stage": stage, "seconds": round(seconds, 1)}) + "\n")
    except OSError as error:
        say(f"the run time of {stage} could not be noted: {error}")


def read() -> dict[str, float]:
    """Seconds by stage; of one that ran more than once, the last time."""
    found = {}
    try:
        lines = limits.read_bytes(file()).decode().splitlines()
    except (InputError, UnicodeDecodeError):
        return {}
    for line in lines:
        try:
            note = json.loads(line)
            found[str(note["stage"])] = float(note["seconds"])
        except (ValueError, TypeError, KeyError):
            continue  # torn by a kill
    return found
