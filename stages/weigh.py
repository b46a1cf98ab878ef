"""splits -> weights, and which of the two each arm reads"""

from pathlib import Path

from curate.base import files
from curate.base.progress import say
from curate.pairs.artefact import read_artefact
from curate.project.params import Params
from curate.selection import measure, weights

from .run import READS, SPLITS, WEIGHTS, read_by, run


def main(params: Params) -> None:
    before = files.read_provenance(SPLITS)
    settled = weights.settled(params.weigh, before)
    frame = weights.weigh(read_artefact(SPLITS, "pairs", "scores", "splits"), settled, measure.forms(before))
    summary = weights.summarise(frame, settled)
    for warning in measure.warnings(before, summary):
        say(f"weigh: warning: {warning}")
    with files.replacing_together(WEIGHTS, "data/weigh.json") as (out, told):
        files.write_parquet(frame, out, weights.provenance(settled, before))
        files.write_json(summary, told)
    digests = {path: files.file_digest(path) for path in (SPLITS, WEIGHTS)}
    for name, arm in params.arms.items():
        path = read_by(arm)
        files.write_json({"file": path, "sha256": digests[path]}, Path(READS) / f"{name}.json")


if __name__ == "__main__":
    run(main)
