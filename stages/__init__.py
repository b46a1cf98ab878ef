"""One thin module per DVC stage: read params, call the library, write the outs.

They import each other relatively: an installed package has them as `curate.stages`.
"""

import curate.base.threads  # noqa: F401  (before torch)
