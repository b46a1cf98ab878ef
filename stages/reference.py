"""texts -> data/reference, the model that later stages score and train from"""

from pathlib import Path

from curate import files, models
from curate.params import Params

from .run import REFERENCE, run


def main(params: Params) -> None:
    if params.model.name == "scratch":
        from curate.reference.pretrain import train_reference

        train_reference(params.reference, params.data, params.cleaning, Path(REFERENCE))
    else:
        with files.replacing(REFERENCE, models.REFERENCE_FILE) as folder:
            models.write_reference(folder, params.model)


if __name__ == "__main__":
    run(main)
