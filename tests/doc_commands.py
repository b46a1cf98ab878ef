"""What stands in for a documented command where tests cannot run it as it is. Everything else in the shell blocks of
README.md, CONTRIBUTING.md and docs/*.md is run as it stands, in order, by tests/test_docs.py.

A block is one of shell where it is fenced as `sh`, or indented (or fenced without a language) and begins with a
program. Each document has a working folder of its own, a copy of the repository with small params, and in it:

    pairs.jsonl     60 pairs in TRL's format
    labels.jsonl    six responses that people called harmful or not
    model/          a random model of two layers
    pairs.parquet, scores.parquet, splits.parquet, weights.parquet, runs/bdpo: what the commands made of these

A new command needs nothing here if it runs on these in a second or two. Else give it a stand-in, or skip it and say
why. A rule that no command matches any more fails a test.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Skip(NamedTuple):
    pattern: str  # searched in the command
    reason: str


class StandIn(NamedTuple):
    """`pattern` is replaced by `replacement`; all that match are, in this order."""

    pattern: str
    replacement: str
    documents: str = ""  # a pattern of the document's path


SKIPPED = [
    Skip(r"^(uv )?pip install", "network; the extras that are named are checked"),
    Skip(r"^vllm serve", "a GPU"),
    Skip(r"--engine server", "servers: tests/scoring/test_server.py has some"),
    Skip(r"--engine ray", "a Ray cluster: tests/scoring/test_ray.py starts one"),
    Skip(r"--accelerate configs/ddp.yaml", "two processes: tests/training/test_processes.py starts them"),
    Skip(
        r"^hf auth login|^curate publish (?!.*--dry-run)|^curate train --data hub:",
        "the Hub: tests/hub has one on loopback",
    ),
    Skip(r"^dvc queue start", "a worker that outlives the command and trains"),
]

STAND_INS = [
    StandIn(r"^curate evaluate ", "curate evaluate --limit 2 --max-tokens 4 --engine transformers "),
    StandIn(r"^curate train (?!.*--data hub)", "curate train --epochs 1 --evaluations 1 --eval-pairs 8 "),
    StandIn(r"^curate score (?!.*--engine)", "curate score --engine transformers "),  # vLLM takes ten seconds to start
    StandIn(r"^make (\w+)", r"make --dry-run \1"),
    StandIn(r"\bsource \.venv/bin/activate", "true"),  # where `make setup` would have made it
    StandIn(r"^python -m pytest", "python -m pytest --collect-only"),
    StandIn(r"--install-completion", "--show-completion"),  # it writes to the caller's own shell configuration
    StandIn(r"Qwen/Qwen2-7B-Instruct", "model"),
    StandIn(r"--model reference", "--model model", r"troubleshooting"),
    StandIn(r"--steps 300", "--steps 3 --vocab-size 400 --hidden-size 64 --heads 2 --layers 1"),
    # tests/test_pipeline.py runs a whole project. Here one runs its first stage; elsewhere it is seen that dvc.yaml and
    # params.yaml make stages, and that an experiment can be queued with these changes.
    StandIn(r"\bdvc repro$", "dvc repro prepare", r"experiments"),
    StandIn(r"\bdvc repro\b(?! prepare)", "dvc status", r"README|experiments|CONTRIBUTING|study|tutorial"),
    StandIn(r"\bdvc exp run (?!--queue)", "dvc exp run --queue "),
]


def skipped(command: str) -> Skip | None:
    return next((rule for rule in SKIPPED if re.search(rule.pattern, command)), None)


def matching(command: str, document: str) -> list[StandIn]:
    """The stand-ins for `command` of `document`."""
    return [rule for rule in STAND_INS if re.search(rule.documents, document) and re.search(rule.pattern, command)]


def stand_in(command: str, document: str) -> str:
    """What is run for `command`."""
    for rule in matching(command, document):
        command = re.sub(rule.pattern, rule.replacement, command)
    return command
