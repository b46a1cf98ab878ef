"""pairs -> scores"""

from pathlib import Path

from curate.base import files
from curate.models.resolve import resolve
from curate.project.params import Params
from curate.scoring.runners import runner
from curate.scoring.score import score_file

from .run import PAIRS, REFERENCE, SCORES, run


def main(params: Params) -> None:
    model = resolve(REFERENCE)
    store = files.state_folder() / "scores"
    scored = score_file(Path(PAIRS), model, params.score, store, Path(SCORES), runner(params.score.engine))
    files.write_parquet(scored.rejects, "data/score_rejects.parquet", scored.provenance | {"artefact": "rejects"})
    files.write_json(scored.summary, "data/score.json")


if __name__ == "__main__":
    run(main)
