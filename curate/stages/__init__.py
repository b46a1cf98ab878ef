"""The modules of stages/ as a part of the package: `python -m curate.stages.score`, from any folder.

In the repository they are `stages.score` as well. A wheel has no top-level name but `curate`.
"""

import curate.base.threads  # noqa: F401  (before torch)
from curate.project.shipped import ROOT

__path__ = [str(ROOT / "stages")]
