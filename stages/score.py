"""pairs -> scores"""

from curate import files, models
from curate.params import Params
from curate.scoring.score import score
from stages.run import PAIRS, REFERENCE, SCORES, run


def main(params: Params) -> None:
    scored = score(
        files.read_artefact(PAIRS, "pairs"),
        models.resolve(REFERENCE),
        params.score,
        files.state_folder() / "scores",
    )
    files.write_parquet(scored.rejects, "data/score_rejects.parquet", scored.provenance | {"artefact": "rejects"})
    files.write_json(scored.summary, "data/score.json")
    files.write_parquet(scored.scores, SCORES, scored.provenance)


if __name__ == "__main__":
    run(main)
