"""scores -> splits"""

from curate import files
from curate.params import Params
from curate.selection import splits

from .run import SCORES, SPLITS, run


def main(params: Params) -> None:
    frame = splits.split(files.read_artefact(SCORES, "pairs", "scores"), params.split)
    files.write_json(splits.summarise(frame), "data/split.json")
    files.write_parquet(frame, SPLITS, splits.provenance(params.split, files.read_provenance(SCORES)))


if __name__ == "__main__":
    run(main)
