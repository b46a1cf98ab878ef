"""What several commands read: a pairs file of ours, or a raw file that is prepared on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from curate import files
from curate.params import CleaningParams, DataParams
from curate.progress import say
from curate.schema import PAIRS, REJECTS


class Pairs(NamedTuple):
    pairs: pl.DataFrame  # at least schema.PAIRS
    rejects: pl.DataFrame  # schema.REJECTS


def pairs(path: Path) -> Pairs:
    """The pairs in `path`: as they are where it is a file of ours, prepared with the defaults where it is not."""
    if path.suffix == ".parquet" and path.is_file():
        try:
            ours = set(PAIRS) <= set(pl.read_parquet_schema(path))
        except pl.exceptions.PolarsError:
            ours = False  # `prepare` says what is wrong with it
        if ours:
            return Pairs(files.read_artefact(path, "pairs"), pl.DataFrame(schema=REJECTS))
    from curate.prepare import prepare

    say(f"{path} is raw: preparing it first (`curate prepare` has options for this)")
    prepared = prepare(DataParams(source=str(path)), CleaningParams())
    return Pairs(prepared.pairs, prepared.rejects)


def rejects_path(out: Path) -> Path:
    return out.with_suffix(".rejects.parquet")


def write_rejects(out: Path, *frames_and_provenance: Any) -> Path | None:
    """Write all rejects beside `out`; None when there are none, and what an earlier such run left is removed."""
    *frames, provenance = frames_and_provenance
    rejects = pl.concat(frames)
    path = rejects_path(out)
    if rejects.is_empty():
        if files.read_provenance(path).get("stage") == provenance["stage"]:
            path.unlink()
        return None
    files.write_parquet(rejects, path, provenance | {"artefact": "rejects"})
    return path
