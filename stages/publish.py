"""weights -> a dataset repository on the Hub: `python -m stages.publish OWNER/NAME`"""

import sys
from pathlib import Path

from curate.base.errors import UsageError
from curate.project.params import Params

from .run import WEIGHTS, run


def main(params: Params) -> None:
    from curate.hub.publish import publish

    if len(sys.argv) != 2 or sys.argv[1] not in params.publish.repos:
        raise UsageError("name one of publish.repos", found=" ".join(sys.argv[1:]), expected=str(params.publish.repos))
    repo = sys.argv[1]
    publish(
        Path(WEIGHTS),
        repo,
        params.publish,
        prepare=Path("data/prepare.json"),
        receipt=Path("data/publish") / f"{repo}.json",
    )


if __name__ == "__main__":
    run(main)
