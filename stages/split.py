"""scores -> splits"""

from curate.base import files
from curate.pairs.artefact import read_artefact
from curate.project.params import Params
from curate.selection import subsets

from .run import SCORES, SPLITS, run


def main(params: Params) -> None:
    frame = subsets.split(read_artefact(SCORES, "pairs", "scores"), params.split)
    with files.replacing_together(SPLITS, "data/split.json") as (out, summary):
        files.write_parquet(frame, out, subsets.provenance(params.split, files.read_provenance(SCORES)))
        files.write_json(subsets.summarise(frame), summary)


if __name__ == "__main__":
    run(main)
