"""every artefact -> report/"""

from pathlib import Path

from curate.project.params import Params
from curate.reporting import made
from curate.reporting.inputs import DOCUMENTS, read_material
from curate.reporting.write import write_report

from .run import REFERENCE, WEIGHTS, run


def main(params: Params) -> None:
    documents = {name: Path(f"data/{name}.json") for name in DOCUMENTS}
    documents["reference"] = Path(REFERENCE) / "reference.json"
    folder = Path("evaluations")
    arms = params.train.arms
    seeds = {arm: params.train.seeds_of(arm) for arm in arms}
    material = read_material(Path(WEIGHTS), documents, Path("runs"), arms, seeds, folder)
    write_report(material, Path("report"), params, made.now(stages(params)))


def stages(params: Params) -> list[str]:
    """What `.curate/times.jsonl` calls the stages that the page is made from."""
    runs = [f"{arm} {seed}" for arm in params.train.arms for seed in params.train.seeds_of(arm)]
    once = ["reference", "prepare", "score", "split", "weigh"]
    return [*once, *(f"train {run}" for run in runs), "evaluate base", *(f"evaluate {run}" for run in runs)]


if __name__ == "__main__":
    run(main)
