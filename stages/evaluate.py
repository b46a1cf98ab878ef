"""one arm's model -> its evaluation: `python -m stages.evaluate ARM SEED`, or `base` for the model before training"""

import sys
from pathlib import Path

from curate.base import files
from curate.evaluation.evaluate import evaluate
from curate.evaluation.record import BASE
from curate.models.resolve import resolve
from curate.project.params import Params

from .run import REFERENCE, arm_and_seed, run


def main(params: Params) -> None:
    state, trust = files.state_folder(), params.model.trust_remote_code
    if sys.argv[1:] == [BASE]:
        model = resolve(REFERENCE, trust_remote_code=trust)
        evaluate(model, params.evaluate, Path("evaluations") / BASE, state, BASE)
        return
    name, seed = arm_and_seed(params, BASE)
    place = Path(name) / f"seed-{seed}"
    folder = Path("runs") / place / "model"
    made = files.read_json_object(folder / "curate.json")
    model = resolve(folder, trust_remote_code=trust)
    evaluate(model, params.evaluate, Path("evaluations") / place, state, name, seed, made)


if __name__ == "__main__":
    run(main)
