"""Kill each command of the pipeline at a drawn moment, look at what is left, run it again, and look at what came out.

What holds after a kill: an output is absent, or whole. After the second run: exit code 0, the same files as of a run
that was not killed, with the same bytes (but where two runs differ anyhow), no private folder left, a state folder that
has not grown, and on the Hub one commit with all files.
"""

from __future__ import annotations

import collections
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from hub_server import Hub, serving
from tiny import save_model

ROOT = Path(__file__).resolve().parents[2]
STATE = ".curate"
MADE = re.compile(rb"Made \d+ \w+ \d+, \d\d:\d\d UTC")  # a report's minute
SLACK = 2**20  # bytes that a state folder may have more than that of a run that was not killed
COMMANDS = {
    "prepare": "prepare raw.jsonl --out pairs.parquet",
    "score": "score pairs.parquet --model ../model --engine transformers --out scores.parquet",
    "split": "split scores.parquet --fraction 0.5 --match sign --out splits.parquet",
    "weigh": "weigh splits.parquet --out weights.parquet",
    "train": "train weights.parquet --model ../model --arm dpo --epochs 1 --batch-pairs 4 --kl-prompts 0 "
    "--evaluations 2 --check-pairs 4 --check-tolerance 0.1 --out run",
    "evaluate": "evaluate run/model --suite heldout=weights.parquet --max-tokens 4 --engine transformers "
    "--out evaluation",
    "report": "report --weights weights.parquet --runs run --evaluations evaluation --out report",
    "publish": "publish weights.parquet --repo me/data --license mit --patience 20 --out folder",
}
"""In the order of the pipeline; each begins where those before it are done."""


class Kill(NamedTuple):
    command: str
    after: float  # seconds
    faults: list[str]
    killed: bool  # else it had ended before


class Commands:
    """The runner's process, and how long each command takes."""

    def __init__(self, folder: Path, hub: Hub, names: list[str]) -> None:
        self.folder, self.hub = folder, hub
        environment = os.environ | {
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": "hf_writer",
            "HF_HOME": str(folder / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "OMP_NUM_THREADS": "1",
            "MPLCONFIGDIR": str(folder / "mpl"),
            "PYTHONPATH": str(ROOT),
        }
        environment.pop("HF_HUB_OFFLINE", None)
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("runner.py")), *_so_far(names)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def _ask(self, line: str) -> int:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def run(self, command: str, project: Path, kill_after: float | None = None) -> int:
        """The exit code; -9 where it was killed."""
        child = self._ask(json.dumps({"args": COMMANDS[command].split(), "cwd": str(project)}))
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)
        return self._ask("wait")

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(timeout=60)


def contents(project: Path) -> dict[str, str]:
    """Digest of every file but those of the state folder; links and empty folders by their kind."""
    found = {}
    for path in sorted(project.rglob("*")):
        name = path.relative_to(project).as_posix()
        if not name.startswith(STATE) and not path.is_dir():
            found[name] = hashlib.sha256(MADE.sub(b"", path.read_bytes())).hexdigest()
    return found


def state_size(project: Path) -> int:
    return sum(path.stat().st_size for path in (project / STATE).rglob("*") if path.is_file())


def private(project: Path) -> list[str]:
    return [path.relative_to(project).as_posix() for path in project.rglob(".*.tmp")]


class Sound(NamedTuple):
    """A command that was not killed: what it starts from, what it leaves."""

    before: Path
    after: dict[str, str]
    varying: set[str]  # files that differ from run to run
    seconds: float
    state: int  # bytes


def sound_runs(commands: Commands, folder: Path, wanted: list[str]) -> dict[str, Sound]:
    """Run the pipeline once, each command twice from the same folder."""
    project = folder / "project"
    project.mkdir()
    texts = [(f"question {n} of the fox", f"a brown answer {n}", f"quick words {n % 7} {n}") for n in range(40)]
    rows = [dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in texts]
    (project / "raw.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = {}
    for name in _so_far(wanted):
        before = folder / f"before-{name}"
        shutil.copytree(project, before)
        again = folder / "again"
        shutil.copytree(project, again)
        seconds = _must(commands, name, project)
        if name in wanted:
            _forget(commands)
            seconds = min(seconds, _must(commands, name, again))  # the first has more to warm up than those killed
        _forget(commands)
        one, two = contents(project), contents(again)
        found[name] = Sound(
            before, one, {path for path in one if one[path] != two.get(path)}, seconds, state_size(project)
        )
        shutil.rmtree(again)
    return {name: found[name] for name in wanted}


def _so_far(wanted: list[str]) -> list[str]:
    """These commands and those before them."""
    names = list(COMMANDS)
    return names[: 1 + max(map(names.index, wanted))]


def _must(commands: Commands, name: str, project: Path) -> float:
    """Run a command that must end well; the seconds that it took."""
    begun = time.monotonic()
    code = commands.run(name, project)
    if code:
        raise AssertionError(f"{name} ended with {code}: {Path(f'{project}.log').read_text()[-2000:]}")
    return time.monotonic() - begun


def _forget(commands: Commands) -> None:
    commands.hub.repos.clear()


def killed_once(commands: Commands, name: str, sound: Sound, after: float, project: Path) -> Kill:
    """Kill one command after so many seconds, and run it again."""
    shutil.copytree(sound.before, project)
    _forget(commands)
    faults = []
    try:
        code = commands.run(name, project, after)
        had = contents(sound.before)
        for path, digest in contents(project).items():
            if ".tmp/" in path or path in sound.varying or digest in (sound.after.get(path), had.get(path)):
                continue
            faults.append(f"after the kill {path} is neither whole nor as it was")
        second = commands.run(name, project)
        said = Path(f"{project}.log").read_text()
        if second or "Traceback" in said:
            faults.append(f"the second run ended with {second}: {said[-500:]}")
        else:
            faults += _compared(commands, name, sound, project)
        return Kill(name, after, faults, code == -signal.SIGKILL)
    finally:
        shutil.rmtree(project)


def _compared(commands: Commands, name: str, sound: Sound, project: Path) -> list[str]:
    now = contents(project)
    faults = [f"{path} is not there" for path in sound.after.keys() - now.keys()]
    faults += [f"{path} is left over" for path in now.keys() - sound.after.keys()]
    faults += [
        f"{path} has other bytes"
        for path, digest in now.items()
        if path in sound.after and path not in sound.varying and digest != sound.after[path]
    ]
    faults += [f"{path} is left over" for path in private(project)]
    if (size := state_size(project)) > sound.state + SLACK:
        faults.append(f"the state folder has {size:,} bytes, of a sound run {sound.state:,}")
    if name == "publish":
        there = commands.hub.files("me/data")
        sent = {path.relative_to(project / "folder").as_posix(): path.read_bytes()
                for path in (project / "folder").rglob("*") if path.is_file()}  # fmt: skip
        faults += [f"the Hub lacks {path}" for path, data in sent.items() if there.get(path) != data]
        if len(commands.hub.repo("me/data").commits) != 2:
            faults.append(f"{len(commands.hub.repo('me/data').commits)} commits on the Hub")
    return faults


def kills(count: int, folder: Path, seed: int = 0, only: list[str] | None = None) -> list[Kill]:
    """`count` kills, the commands in turn, each at a moment drawn over the time that it takes."""
    names = only or list(COMMANDS)
    draw = random.Random(seed)
    save_model(folder / "model")
    done = []
    with serving() as hub:
        commands = Commands(folder, hub, names)
        try:
            sound = sound_runs(commands, folder, names)
            for number in range(count):
                name = names[number % len(names)]
                after = draw.uniform(0, sound[name].seconds)
                done.append(killed_once(commands, name, sound[name], after, folder / "killed"))
        finally:
            commands.close()
    return done


def counted(done: list[Kill]) -> dict[str, collections.Counter[str]]:
    counts: dict[str, Any] = {}
    for kill in done:
        count = counts.setdefault(kill.command, collections.Counter())
        count["kills" if kill.killed else "ended before"] += 1
        count["faults"] += bool(kill.faults)
    return counts
