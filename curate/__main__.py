"""`python -m curate` is the command `curate`."""

import curate.base.threads  # noqa: F401  (before torch)
from curate.cli import main

main()
