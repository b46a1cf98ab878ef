"""scores -> splits"""

from curate.base import files
from curate.base.progress import say
from curate.pairs.artefact import read_with_provenance
from curate.project.params import Params
from curate.selection import measure, subsets

from .run import SCORES, SPLITS, run


def main(params: Params) -> None:
    scores, before = read_with_provenance(SCORES, "pairs", "scores")
    frame = subsets.split(scores, params.split)
    summary = subsets.summarise(frame, params.split)
    for warning in measure.warnings(before, summary, f"split.match: [{', '.join(subsets.wider(params.split))}]"):
        say(f"split: warning: {warning}")
    with files.replacing_together(SPLITS, "data/split.json") as (out, told):
        files.write_parquet(frame, out, subsets.provenance(params.split, before))
        files.write_json(summary, told)


if __name__ == "__main__":
    run(main)
