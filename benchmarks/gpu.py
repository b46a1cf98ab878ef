"""What a GPU alone can tell of curate: one JSON file and one Markdown page. benchmarks/gpu.md says how it is run.

    sh benchmarks/gpu.sh --out FOLDER [--model FOLDER] [--tiny] [--only parity,scoring]

Each section is a process of its own with so many seconds; one that fails, or takes longer, is recorded with its error,
and the rest goes on. With `--only` what FOLDER has of other sections stays: use another folder for another machine.
`--tiny` runs the same on the smallest sizes, in one process: a minute on a CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from curate.base import files

HERE = Path(__file__).resolve().parent
SECTIONS = {  # seconds on a GPU, at most; together ten minutes, and five more where there is vLLM
    "machine": 20,
    "parity": 60,
    "scoring": 75,
    "training": 100,
    "lora": 110,
    "fsdp": 95,
    "divergence": 30,
    "generation": 40,
    "vllm_answers": 80,
    "pack_attention": 60,
    "vllm": 120,
    "vllm_old_runner": 40,
    "vllm_server": 60,
    "study": 15,
}
TINY_SECONDS = 600  # of all sections together with tiny sizes, at most
LAST_WORDS = 1500  # characters of a failed section's output that are kept


def main() -> None:
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "gpu.json"
    command = " ".join(["sh benchmarks/gpu.sh", *sys.argv[1:]])
    found = earlier(file) if options.only != list(SECTIONS) else {}
    with tempfile.TemporaryDirectory(prefix="curate-gpu-") as scratch:
        for names in [options.only] if options.tiny else [[name] for name in options.only]:
            for name, section in run(names, options, Path(scratch)).items():
                found[name] = section | {"command": command}
                print(f"{name}: {section['seconds']:.0f} s", " ".join(section.get("error", "").split())[-200:])
            record = {"sections": {name: found[name] for name in SECTIONS if name in found}}
            files.write_text(json.dumps(record, indent=1) + "\n", file)
            files.write_text(page(record), options.out / "gpu.md")


def earlier(file: Path) -> dict[str, Any]:
    """The sections of an earlier call; none where there is no such file, or it is torn."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))["sections"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json and gpu.md")
    parser.add_argument("--model", type=Path, help="a model's folder, such as SmolLM2-135M-Instruct; else a random one")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(SECTIONS), help=", ".join(SECTIONS))
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: a try of everything on a CPU")
    parser.add_argument("--alone", action="store_true", help="the small model alone, without a random 1.5B")
    parser.add_argument("--dtypes", help="of the small model where several are run: float32, bfloat16 or both")
    parser.add_argument("--patience", type=float, default=1.0, help="times the seconds that each section may take")
    parser.add_argument("--study", default="benchmarks/gpu_study.py", help="a script that is run last, where it is")
    options = parser.parse_args()
    if unknown := set(options.only) - set(SECTIONS):
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(SECTIONS)}")
    return options


def run(names: list[str], options: argparse.Namespace, scratch: Path) -> dict[str, dict[str, Any]]:
    """The sections, in one process: the rows of each, or its error; and how long it took."""
    command = [sys.executable, str(HERE / "gpu_sections.py"), ",".join(names), str(scratch), f"--study={options.study}"]
    command += [f"--model={options.model.resolve()}"] if options.model else []
    command += ["--tiny"] if options.tiny else []
    command += ["--alone"] if options.alone else []
    command += [f"--dtypes={options.dtypes}"] if options.dtypes else []
    limit = TINY_SECONDS if options.tiny else options.patience * sum(SECTIONS[name] for name in names)
    started = time.monotonic()
    error = ""
    # A session of its own: what a section has started, such as vLLM's process, ends with it.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            out, written = process.communicate(timeout=limit)
            if process.returncode:
                error = f"exit code {process.returncode}: {(written or out)[-LAST_WORDS:]}"
        except subprocess.TimeoutExpired as late:
            error = f"not done within {limit:.0f} s: {_text(late.stderr)[-LAST_WORDS:]}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        file = scratch / f"{name}.json"
        found[name] = {"rows": [], "seconds": time.monotonic() - started}
        if file.exists():
            found[name] |= json.loads(file.read_text(encoding="utf-8"))
        if error and not found[name].get("done"):
            found[name]["error"] = error
    return found


def _text(output: Any) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def page(record: dict[str, Any]) -> str:
    """The Markdown page: a table a section."""
    parts = ["# On a GPU\n"]
    for name, section in record["sections"].items():
        parts.append(f"## {name}\n\n`{section['command']}`\n")
        rows = section["rows"]
        if rows:
            columns = list(dict.fromkeys(key for row in rows for key in row))
            parts.append(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
            parts += [f"| {' | '.join(_cell(row.get(column)) for column in columns)} |" for row in rows]
            parts.append("")
        if error := section.get("error"):
            last = " ".join(error.split())[-300:]
            parts.append(f"Not done: {last}\n")
        parts.append(f"{section['seconds']:.0f} s.\n")
    return "\n".join(parts)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    os.chdir(HERE.parent)
    main()
