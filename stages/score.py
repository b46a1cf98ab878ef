"""pairs -> scores"""

from pathlib import Path

from curate import files, models
from curate.params import Params
from curate.scoring.score import score_file

from .run import PAIRS, REFERENCE, SCORES, run


def main(params: Params) -> None:
    model = models.resolve(REFERENCE)
    scored = score_file(Path(PAIRS), model, params.score, files.state_folder() / "scores", Path(SCORES))
    files.write_parquet(scored.rejects, "data/score_rejects.parquet", scored.provenance | {"artefact": "rejects"})
    files.write_json(scored.summary, "data/score.json")


if __name__ == "__main__":
    run(main)
