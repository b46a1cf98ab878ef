"""every artefact -> report/"""

from pathlib import Path

from curate.project.params import Params
from curate.reporting.inputs import DOCUMENTS, read_material
from curate.reporting.write import write_report

from .run import REFERENCE, WEIGHTS, run


def main(params: Params) -> None:
    documents = {name: Path(f"data/{name}.json") for name in DOCUMENTS}
    documents["reference"] = Path(REFERENCE) / "reference.json"
    folder = Path("evaluations")
    material = read_material(Path(WEIGHTS), documents, Path("runs"), params.train.arms, params.train.seeds, folder)
    write_report(material, Path("report"), params)


if __name__ == "__main__":
    run(main)
