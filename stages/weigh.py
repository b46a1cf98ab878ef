"""splits -> weights, and digests of what each arm reads of them"""

from pathlib import Path

from curate.base import files
from curate.base.progress import say
from curate.pairs.artefact import read_with_provenance
from curate.project.params import Params
from curate.selection import measure, reads, weights

from .run import READS, SPLITS, WEIGHTS, run


def main(params: Params) -> None:
    splits, before = read_with_provenance(SPLITS, "pairs", "scores", "splits")
    settled = weights.settled(params.weigh, before)
    frame = weights.weigh(splits, settled, measure.forms(before))
    summary = weights.summarise(frame, settled)
    for warning in measure.warnings(before, summary):
        say(f"weigh: warning: {warning}")
    provenance = weights.provenance(settled, before)
    with files.replacing_together(WEIGHTS, "data/weigh.json") as (out, told):
        files.write_parquet(frame, out, provenance)
        files.write_json(summary, told)
    arms = {name: params.arms[name] for name in params.train.arms}
    for name, digest in reads.digests(frame, provenance, arms).items():
        files.write_json({"reads": digest}, Path(READS) / f"{name}.json")


if __name__ == "__main__":
    run(main)
