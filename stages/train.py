"""weights -> one arm's run with one seed: `python -m stages.train ARM SEED`"""

import sys
from pathlib import Path

from curate.base import files
from curate.models.resolve import resolve
from curate.pairs.artefact import read_with_provenance
from curate.project.params import Params
from curate.selection import reads
from curate.training.launch import launch

from .run import REFERENCE, WEIGHTS, arm_and_seed, run


def main(params: Params) -> None:
    name, seed = arm_and_seed(params)
    arm = params.arms[name]
    code = launch(arm.training(params.train).accelerate, f"{__package__}.train", sys.argv[1:])
    if code is not None:
        sys.exit(code)

    from curate.training.train import train

    pairs, provenance = reads.read(*read_with_provenance(WEIGHTS, "pairs", "scores", "splits", "weights"), arm)
    train(
        pairs,
        resolve(REFERENCE, trust_remote_code=params.model.trust_remote_code),
        params.train,
        arm,
        name,
        Path("runs") / name / f"seed-{seed}",
        files.state_folder(),
        provenance,
        seed,
    )


if __name__ == "__main__":
    run(main)
