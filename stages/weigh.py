"""splits -> weights, and which of the two each arm reads"""

from pathlib import Path

from curate.base import files
from curate.pairs.artefact import read_artefact
from curate.project.params import Params
from curate.selection import weights

from .run import READS, SPLITS, WEIGHTS, run


def main(params: Params) -> None:
    frame = weights.weigh(read_artefact(SPLITS, "pairs", "scores", "splits"), params.weigh)
    with files.replacing_together(WEIGHTS, "data/weigh.json") as (out, summary):
        files.write_parquet(frame, out, weights.provenance(params.weigh, files.read_provenance(SPLITS)))
        files.write_json(weights.summarise(frame, params.weigh), summary)
    digests = {path: files.file_digest(path) for path in (SPLITS, WEIGHTS)}
    for name, arm in params.arms.items():
        path = WEIGHTS if arm.reads_weights else SPLITS
        files.write_json({"file": path, "sha256": digests[path]}, Path(READS) / f"{name}.json")


if __name__ == "__main__":
    run(main)
