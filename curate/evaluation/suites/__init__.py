"""The suites by name: one file each, registered here."""

from __future__ import annotations

from curate.base.errors import UsageError
from curate.evaluation.suites.advglue import AdvGLUE
from curate.evaluation.suites.base import Suite
from curate.evaluation.suites.behaviours import Behaviours
from curate.evaluation.suites.gcg import GCG
from curate.evaluation.suites.gsm8k import GSM8K
from curate.evaluation.suites.harness import Harness
from curate.evaluation.suites.heldout import Heldout
from curate.evaluation.suites.hhh import HHH
from curate.evaluation.suites.pair import Pair
from curate.evaluation.suites.prefill import Prefill
from curate.evaluation.suites.sample import Sample
from curate.evaluation.suites.strongreject import StrongReject
from curate.evaluation.suites.suffix import Suffix
from curate.evaluation.suites.templates import Templates
from curate.evaluation.suites.xstest import XSTest

SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        *(Sample(), Heldout(), StrongReject(), XSTest(), Behaviours()),
        *(Prefill(), Suffix(), Templates(), GCG(), Pair()),
        *(HHH(), GSM8K(), AdvGLUE(), Harness()),
    )
}


def suite_of(name: str) -> Suite:
    """The suite of that name. Raises `UsageError` where there is none."""
    if name not in SUITES:
        raise UsageError("no such suite", field="suite", found=name, expected=", ".join(SUITES))
    return SUITES[name]
