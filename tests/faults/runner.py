"""A process that has everything imported, and forks a `curate` command for each line: {"args": [...], "cwd": ...}.

It says the child's number at once, and for the line "wait" how the child ended.
"""

import json
import os
import sys

import curate.base.threads  # noqa: F401  isort: skip  (before torch)
import huggingface_hub  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import torch  # noqa: F401
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM  # noqa: F401

from curate import cli
from curate.evaluation import evaluate  # noqa: F401
from curate.hub import publish  # noqa: F401
from curate.reporting import write  # noqa: F401
from curate.scoring import score  # noqa: F401
from curate.training import train  # noqa: F401


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
