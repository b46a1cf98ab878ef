"""texts -> data/reference, the model that later stages score and train from"""

from pathlib import Path

from curate.base import files
from curate.models import resolve
from curate.project.params import Params

from .run import REFERENCE, run


def main(params: Params) -> None:
    if params.model.name == "scratch":
        from curate.models.scratch.pretrain import train_reference

        train_reference(params.reference, params.data, params.cleaning, Path(REFERENCE))
    else:
        with files.replacing(REFERENCE, resolve.REFERENCE) as folder:
            resolve.write_reference(folder, params.model, REFERENCE)


if __name__ == "__main__":
    run(main)
