"""Under which licence a derived dataset may go out: the source's, or one that keeps what the source's demands."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from curate.base.errors import UsageError

KNOWN = {
    "sample": "apache-2.0",
    "Anthropic/hh-rlhf": "mit",
    "PKU-Alignment/BeaverTails": "cc-by-nc-4.0",
    "PKU-Alignment/PKU-SafeRLHF": "cc-by-nc-4.0",
    "PKU-Alignment/PKU-SafeRLHF-10K": "cc-by-nc-4.0",
    "PKU-Alignment/PKU-SafeRLHF-30K": "cc-by-nc-4.0",
}
"""Sources that are often used, as the `source` column names them, and the licence that each states."""

UNSTATED = ("other", "unknown")
"""Words of the Hub that name no licence."""
NON_COMMERCIAL = ("fair-noncommercial-research-license", "apple-amlr", "h-research", "intel-research")
"""Licences that forbid commercial use, besides Creative Commons' nc ones."""
# fmt: off
ALIKE = frozenset([
    "gpl", "gpl-2.0", "gpl-3.0", "agpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "lgpl-lr", "gfdl", "odbl",
    "cdla-sharing-1.0", "osl-3.0", "eupl-1.1", "eupl-1.2", "apple-amlr",
])
# fmt: on
"""Licences, besides Creative Commons' sa ones, under whose own terms alone what is made of the source may go out:
GPL 3 section 5c, AGPL 3 section 5c, LGPL, GFDL section 4, ODbL 4.2, CDLA-Sharing 3.1, OSL 1c, EUPL 5, and Apple's
licence for research, whose derived works go out under its own terms (2A)."""
# fmt: off
NAMES = frozenset([
    "apache-2.0", "mit", "openrail", "openrail++", "bigscience-openrail-m", "creativeml-openrail-m",
    "bigscience-bloom-rail-1.0", "bigcode-openrail-m", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd", "bsd-2-clause",
    "bsd-3-clause", "bsd-3-clause-clear", "c-uda", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0",
    "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cdla-sharing-1.0",
    "cdla-permissive-1.0", "cdla-permissive-2.0", "wtfpl", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1",
    "eupl-1.2", "agpl-3.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "lgpl-lr", "isc",
    "h-research", "intel-research", "lppl-1.3c", "ms-pl", "apple-ascl", "apple-amlr", "mpl-2.0", "odc-by", "odbl",
    "openmdw-1.0", "osl-3.0", "postgresql", "ofl-1.1", "ncsa", "unlicense", "zlib", "pddl", "deepfloyd-if-license",
    "fair-noncommercial-research-license", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "gemma",
    "grok2-community", "other",
])
# fmt: on
"""The identifiers that the Hub knows; `other` for a licence that has none there."""

_REMEDY = "name the licence under which the data may go out: --license, or publish.license in params.yaml"


class Licence(NamedTuple):
    """What the dataset goes out under, and what each source states (None: it is not known)."""

    name: str  # the Hub's identifier
    sources: dict[str, str | None]


def decide(given: str | None, sources: Iterable[str], ask: Callable[[str], str | None]) -> Licence:
    """The licence: `given`, or what the sources have in common.

    Args:
        sources: values of the column `source`.
        ask: what the card of a Hub dataset states; None where it cannot be had.

    Raises:
        UsageError: no licence is given and the sources state none, or several; a source forbids derived works; or
            the one given drops a condition of a source (non-commercial, share-alike).
    """
    stated = {source: _stated(source, ask) for source in sorted(sources)}
    if given is not None:
        given = given.strip().lower()
        if given not in NAMES:
            close = difflib.get_close_matches(given, sorted(NAMES), n=3)
            expected = f"{' or '.join(close)}?" if close else "such as cc-by-4.0; other, for one that has no identifier"
            raise UsageError("not a licence's identifier", field="license", found=given, expected=expected)
    for who, licence in {**stated, "license": given}.items():
        if licence and "nd" in _terms(licence):
            raise UsageError(
                "the licence forbids changed copies, and a weighted dataset is one: it cannot be published",
                field=who,
                found=licence,
                remedy="ask the holder of the rights",
            )
    if given is None:
        return Licence(_common(stated), stated)
    for source, licence in stated.items():
        if licence is None:
            continue
        if non_commercial(licence) and not non_commercial(given):
            raise UsageError(
                "the source forbids commercial use, and the licence given would allow it",
                field="license",
                found=f"{given}, of a source under {licence} ({source})",
                expected=licence,
            )
        if "sa" in _terms(licence) and given != licence:
            raise UsageError(
                "the source must be shared alike, under its own licence",
                field="license",
                found=f"{given}, of a source under {licence} ({source})",
                expected=licence,
            )
    return Licence(given, stated)


def non_commercial(licence: str) -> bool:
    """Whether a licence, by its identifier, forbids commercial use."""
    return "nc" in _terms(licence) or licence in NON_COMMERCIAL


def _terms(licence: str) -> set[str]:
    """by, nc, nd, sa of a Creative Commons licence; sa of others that ask for it (`ALIKE`)."""
    parts = licence.split("-")
    if parts[0] == "cc":
        return set(parts[1:]) & {"by", "nc", "nd", "sa"}
    return {"sa"} if licence in ALIKE else set()


def _stated(source: str, ask: Callable[[str], str | None]) -> str | None:
    known = {name.casefold(): licence for name, licence in KNOWN.items()}.get(source.casefold())
    if known is None and "/" in source:  # a Hub id; a file's name has no slash
        known = ask(source)
    return None if known in UNSTATED else known


def _common(stated: dict[str, str | None]) -> str:
    found = set(stated.values())
    if None in found or not found:
        unknown = ", ".join(source for source, licence in stated.items() if licence is None) or "no source"
        raise UsageError("the licence of the source is not known", field="license", found=unknown, remedy=_REMEDY)
    if len(found) > 1:
        each = ", ".join(f"{source}: {licence}" for source, licence in stated.items())
        raise UsageError("the sources have different licences", field="license", found=each, remedy=_REMEDY)
    return str(found.pop())
