"""One thin module per DVC stage: read params, call the library, write the outs."""

import curate.threads  # noqa: F401  (before torch)
