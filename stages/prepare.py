"""raw -> pairs"""

from curate.pairs.prepare import prepare, write
from curate.project.params import Params

from .run import PAIRS, run


def main(params: Params) -> None:
    write(prepare(params.data, params.cleaning), PAIRS, "data/rejects.parquet", "data/prepare.json")


if __name__ == "__main__":
    run(main)
