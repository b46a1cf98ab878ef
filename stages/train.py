"""weights, or splits for an arm without -> one arm's run with one seed: `python -m stages.train ARM SEED`"""

import sys
from pathlib import Path

from curate.base import files
from curate.models.resolve import resolve
from curate.pairs.artefact import read_artefact
from curate.project.params import Params
from curate.selection.weights import unweighted
from curate.training.launch import launch

from .run import REFERENCE, arm_and_seed, read_by, run


def main(params: Params) -> None:
    name, seed = arm_and_seed(params)
    arm = params.arms[name]
    code = launch(arm.training(params.train).accelerate, f"{__package__}.train", sys.argv[1:])
    if code is not None:
        sys.exit(code)

    from curate.training.train import train

    path = read_by(arm)
    pairs = read_artefact(path, "pairs", "scores", "splits", *(["weights"] if arm.reads_weights else []))
    train(
        pairs if arm.reads_weights else unweighted(pairs),
        resolve(REFERENCE, trust_remote_code=params.model.trust_remote_code),
        params.train,
        arm,
        name,
        Path("runs") / name / f"seed-{seed}",
        files.state_folder(),
        files.read_provenance(path),
        seed,
    )


if __name__ == "__main__":
    run(main)
