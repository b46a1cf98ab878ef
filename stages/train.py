"""weights -> one arm's run with one seed: `python -m stages.train ARM SEED`"""

import sys
from pathlib import Path

from curate import files, models
from curate.errors import UsageError
from curate.params import Params
from curate.training.launch import launch

from .run import REFERENCE, WEIGHTS, run


def main(params: Params) -> None:
    if len(sys.argv) != 3 or sys.argv[1] not in params.arms or not sys.argv[2].isdigit():
        expected = f"an arm ({', '.join(params.arms)}) and a seed"
        raise UsageError("name an arm and a seed", found=" ".join(sys.argv[1:]), expected=expected)
    name, seed = sys.argv[1], int(sys.argv[2])
    arm = params.arms[name]
    code = launch(arm.training(params.train).accelerate, f"{__package__}.train", sys.argv[1:])
    if code is not None:
        sys.exit(code)

    from curate.training.train import train

    train(
        files.read_artefact(WEIGHTS, "pairs", "scores", "splits", "weights"),
        models.resolve(REFERENCE),
        params.train,
        arm,
        name,
        Path("runs") / name / f"seed-{seed}",
        files.state_folder(),
        files.read_provenance(WEIGHTS),
        seed,
    )


if __name__ == "__main__":
    run(main)
