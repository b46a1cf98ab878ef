"""pairs -> scores"""

from pathlib import Path

from curate.base import files
from curate.models.resolve import resolve
from curate.project.params import Params
from curate.scoring.runners import runner
from curate.scoring.score import score_file

from .run import PAIRS, REFERENCE, SCORES, run


def main(params: Params) -> None:
    model = resolve(REFERENCE, trust_remote_code=params.model.trust_remote_code)
    store = files.state_folder() / "scores"
    with files.replacing_together(SCORES, "data/score_rejects.parquet", "data/score.json") as (out, rejects, summary):
        scored = score_file(Path(PAIRS), model, params.score, store, out, runner(params.score.engine))
        files.write_parquet(scored.rejects, rejects, scored.provenance | {"artefact": "rejects"})
        files.write_json(scored.summary, summary)


if __name__ == "__main__":
    run(main)
