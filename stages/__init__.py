"""One thin module per DVC stage: read params, call the library, write the outs.

They import each other relatively: an installed package has them as `curate.stages`.
"""

import sys

from curate.base.exits import from_the_start

if sys.argv[:1] == ["-m"]:  # `python -m stages.NAME`: a process of ours, and its first line
    from_the_start()

import curate.base.threads  # noqa: F401  (before torch)
