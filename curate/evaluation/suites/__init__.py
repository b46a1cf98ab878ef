"""The suites by name: one file each, registered here."""

from __future__ import annotations

from curate.errors import UsageError
from curate.evaluation.suites.base import Suite
from curate.evaluation.suites.behaviours import Behaviours
from curate.evaluation.suites.heldout import Heldout
from curate.evaluation.suites.sample import Sample
from curate.evaluation.suites.strongreject import StrongReject
from curate.evaluation.suites.xstest import XSTest

SUITES: dict[str, Suite] = {
    suite.name: suite for suite in (Sample(), Heldout(), StrongReject(), XSTest(), Behaviours())
}


def suite_of(name: str) -> Suite:
    """The suite of that name. Raises `UsageError` where there is none."""
    if name not in SUITES:
        raise UsageError("no such suite", field="suite", found=name, expected=", ".join(SUITES))
    return SUITES[name]
