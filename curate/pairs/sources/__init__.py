"""Input formats by name. A new format is one file here and one line in `FORMATS`."""

from __future__ import annotations

from curate.pairs.sources import (
    alpaca,
    argilla,
    canonical,
    helpsteer,
    hh,
    kto,
    labelled,
    llama_factory,
    openai,
    orca,
    pku,
    ranked_pair,
    ranking,
    red_team,
    sharegpt,
    shp,
    skywork,
    trl,
    tulu,
    ultrafeedback,
)
from curate.pairs.sources.format import Format

FORMATS: dict[str, Format] = {
    known.name: known
    for known in (
        canonical.FORMAT,
        trl.FORMAT,
        pku.FORMAT,
        ranked_pair.RANKED,
        ranked_pair.PKU,
        hh.FORMAT,
        labelled.BEAVERTAILS,
        labelled.WILDGUARD,
        labelled.AEGIS,
        ultrafeedback.BINARIZED,
        ultrafeedback.COMPLETIONS,
        argilla.CLEANED,
        argilla.AVERAGES,
        argilla.MIX,
        argilla.ORCA,
        argilla.GENERATIONS,
        orca.FORMAT,
        orca.QUERY,
        alpaca.FORMAT,
        alpaca.OUTPUT,
        sharegpt.FORMAT,
        llama_factory.FORMAT,
        llama_factory.SWIFT,
        openai.FORMAT,
        kto.FORMAT,
        kto.ALPACA,
        kto.MESSAGES,
        helpsteer.PREFERENCE,
        helpsteer.THREE,
        helpsteer.RATINGS,
        ranking.NECTAR,
        ranking.FORMAT,
        skywork.FORMAT,
        tulu.FORMAT,
        shp.FORMAT,
        red_team.FORMAT,
    )
}

RENAMED = {"response_pair": "pku_ranked"}
"""Names that params files of earlier versions have."""
