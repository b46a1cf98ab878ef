"""accelerate's launcher, as `curate.training.launch` runs it: `python -m curate.training.processes --config_file ...`

It ends with the command above it, and says of a worker's end what the worker could not: a user's mistake has been said
by the worker, once, and needs no traceback of the launcher's.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings

from curate.base.exits import AGAIN
from curate.base.progress import say
from curate.training.launch import PARENT, end_with_parent


def main() -> int:
    end_with_parent(signal.SIGTERM)
    os.environ[PARENT] = str(os.getpid())  # of the workers
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a worker whose peer is gone warns of lost connections
    warnings.filterwarnings("ignore", message="Port `.*` is already in use")  # it then finds one that is free
    logging.disable(logging.ERROR)  # which worker failed with which exit code; what of it matters is below

    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        launch_command(launch_command_parser().parse_args())
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            return int(failure.exitcode)
        name = signal.Signals(-failure.exitcode).name
        hint = " (memory may have run out)" if name == "SIGKILL" else ""
        say(f"curate: process {rank} of the training was ended by {name}{hint}; {AGAIN}")
        return 1
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0


if __name__ == "__main__":
    sys.exit(main())
