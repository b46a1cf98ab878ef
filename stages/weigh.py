"""splits -> weights"""

from curate.base import files
from curate.pairs.artefact import read_artefact
from curate.project.params import Params
from curate.selection import weights

from .run import SPLITS, WEIGHTS, run


def main(params: Params) -> None:
    frame = weights.weigh(read_artefact(SPLITS, "pairs", "scores", "splits"), params.weigh)
    with files.replacing_together(WEIGHTS, "data/weigh.json") as (out, summary):
        files.write_parquet(frame, out, weights.provenance(params.weigh, files.read_provenance(SPLITS)))
        files.write_json(weights.summarise(frame, params.weigh), summary)


if __name__ == "__main__":
    run(main)
