"""Input formats by name. A new format is one file here and one line in `FORMATS`."""

from __future__ import annotations

from curate.pairs.sources import canonical, hh, openai, orca, pku, ranked_pair, sharegpt, trl
from curate.pairs.sources.format import Format

FORMATS: dict[str, Format] = {
    known.name: known
    for known in (
        canonical.FORMAT,
        pku.FORMAT,
        ranked_pair.RANKED,
        ranked_pair.PKU,
        hh.FORMAT,
        openai.FORMAT,
        sharegpt.FORMAT,
        orca.FORMAT,
        orca.QUERY,
        orca.ALPACA,
        trl.FORMAT,
    )
}

RENAMED = {"response_pair": "pku_ranked"}
"""Names that params files of earlier versions have."""
