"""one arm's model -> its evaluation: `python -m stages.evaluate ARM SEED`, or `base` for the model before training"""

import sys
from pathlib import Path

from curate import files, models
from curate.errors import UsageError
from curate.evaluation.evaluate import BASE, evaluate
from curate.params import Params

from .run import REFERENCE, run


def main(params: Params) -> None:
    state = files.state_folder()
    if sys.argv[1:] == [BASE]:
        evaluate(models.resolve(REFERENCE), params.evaluate, Path("evaluations") / BASE, state, BASE)
        return
    if len(sys.argv) != 3 or sys.argv[1] not in params.arms or not sys.argv[2].isdigit():
        expected = f"{BASE}, or an arm ({', '.join(params.arms)}) and a seed"
        raise UsageError("name an arm and a seed", found=" ".join(sys.argv[1:]), expected=expected)
    name, seed = sys.argv[1], int(sys.argv[2])
    place = Path(name) / f"seed-{seed}"
    folder = Path("runs") / place / "model"
    made = files.read_json(folder / "curate.json")
    evaluate(models.resolve(folder), params.evaluate, Path("evaluations") / place, state, name, seed, made)


if __name__ == "__main__":
    run(main)
