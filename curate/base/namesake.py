"""The package index has another package called `curate`, which is not ours: ours is `curate-preferences`.

Both would put their files in the folder `curate`. Where the other one is installed nobody knows which of its files
replaced ours, so that nothing is run.
"""

from __future__ import annotations

from curate.base.errors import UsageError

DISTRIBUTION = "curate-preferences"
_OURS = "Score safety-preference pairs"
"""How our summary begins: before it had a name of its own, this package was installed as `curate`, too."""


def refuse_namesake() -> None:
    """Raises `UsageError` where the other package is installed. Takes a few milliseconds."""
    from importlib import metadata

    try:
        other = metadata.distribution("curate")
    except metadata.PackageNotFoundError:
        return
    summary = other.metadata["Summary"] or ""
    if not summary.startswith(_OURS):
        raise UsageError(
            "another package named curate is installed here, and its files mix with ours",
            found=f"curate {other.version}: {summary}".rstrip(": "),
            remedy=f"pip uninstall curate, then install {DISTRIBUTION} again (docs/install.md) with --force-reinstall",
        )
