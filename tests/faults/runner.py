"""A process that imports what the commands it is given want, and forks one for each line: {"args": [...], "cwd": ...}.

It says the child's number at once, and for the line "wait" how the child ended.
"""

import gc
import importlib
import json
import os
import sys

import curate.base.threads  # noqa: F401  isort: skip  (before torch)
from curate import cli

IMPORTED = {
    "score": ("curate.models.load", "curate.scoring.score", "transformers.models.qwen2.modeling_qwen2"),
    "train": ("curate.training.train",),
    "evaluate": ("curate.evaluation.evaluate",),
    "report": ("matplotlib.pyplot", "curate.reporting.write"),
    "publish": ("huggingface_hub", "matplotlib.pyplot", "curate.hub.publish"),
}
for command in sys.argv[1:]:
    for module in IMPORTED.get(command, ()):
        importlib.import_module(module)
gc.freeze()  # else each child goes through all of it when it ends, a second long


def run(args: list[str], cwd: str) -> None:
    os.chdir(cwd)
    said = os.open(f"{cwd}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv = ["curate", *args]
    cli.main()


def answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


child = 0
for line in sys.stdin:
    if line == "wait\n":
        answer(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        continue
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        sys.stdin.close()
        run(asked["args"], asked["cwd"])
        break
    answer(child)
