"""The modules of stages/ as a part of the package: `python -m curate.stages.score`, from any folder.

In the repository they are `stages.score` as well. A wheel has no top-level name but `curate`.
"""

import sys

from curate.base.exits import from_the_start

if sys.argv[:1] == ["-m"]:  # `python -m curate.stages.NAME`: a process of ours, and its first line
    from_the_start()

import curate.base.threads  # noqa: F401  (before torch)
from curate.project.shipped import ROOT

__path__ = [str(ROOT / "stages")]
