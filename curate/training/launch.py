"""Training in several processes: a command starts itself again under `accelerate launch`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from curate.base.errors import InputError

STARTED = "CURATE_LAUNCHED"  # set in the processes started here, so that they do not start more


def launch(configuration: str | None, module: str, arguments: Sequence[str]) -> int | None:
    """Run `python -m module arguments` in the processes that `configuration` asks for.

    Returns:
        The exit code; None where there is nothing to start: no configuration, or this is one of the processes.

    Raises:
        InputError: no such configuration.
    """
    if configuration is None or STARTED in os.environ:
        return None
    if not Path(configuration).is_file():
        raise InputError("no such accelerate configuration", file=configuration, field="train.accelerate")
    starter = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", configuration]
    return subprocess.run([*starter, "-m", module, *arguments], env=os.environ | {STARTED: "1"}, check=False).returncode
