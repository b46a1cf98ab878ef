"""raw -> pairs"""

from curate.params import Params
from curate.prepare import prepare, write

from .run import PAIRS, run


def main(params: Params) -> None:
    write(prepare(params.data, params.cleaning), PAIRS, "data/rejects.parquet", "data/prepare.json")


if __name__ == "__main__":
    run(main)
