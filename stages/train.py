"""weights -> one arm's run: `python -m stages.train ARM`"""

import sys
from pathlib import Path

from curate import files, models
from curate.errors import UsageError
from curate.params import Params
from curate.training.train import train
from stages.run import REFERENCE, WEIGHTS, run


def main(params: Params) -> None:
    if len(sys.argv) != 2 or sys.argv[1] not in params.arms:
        raise UsageError("name one arm", found=" ".join(sys.argv[1:]), expected=", ".join(params.arms))
    name = sys.argv[1]
    train(
        files.read_artefact(WEIGHTS, "pairs", "scores", "splits", "weights"),
        models.resolve(REFERENCE),
        params.train,
        params.arms[name],
        name,
        Path("runs") / name,
        files.state_folder(),
        files.read_provenance(WEIGHTS),
    )


if __name__ == "__main__":
    run(main)
