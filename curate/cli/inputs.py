"""What several commands read: a pairs file of ours, or a raw file that is prepared on the way; weighted pairs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from curate.base import files
from curate.base.progress import say
from curate.pairs.artefact import read_artefact
from curate.pairs.schema import PAIRS, REJECTS
from curate.project.params import CleaningParams, DataParams


class Pairs(NamedTuple):
    file: Path  # columns: at least schema.PAIRS
    rejects: pl.DataFrame  # schema.REJECTS


@contextmanager
def pairs(path: Path) -> Iterator[Pairs]:
    """A pairs file: `path` itself where it is one of ours; else it is prepared with the defaults, for this block."""
    if path.suffix == ".parquet" and path.is_file():
        try:
            ours = set(PAIRS) <= set(pl.read_parquet_schema(path))
        except pl.exceptions.PolarsError:
            ours = False  # `prepare` says what is wrong with it
        if ours:
            yield Pairs(path, pl.DataFrame(schema=REJECTS))
            return
    from curate.pairs.prepare import prepare

    say(f"{path} is raw: preparing it first (`curate prepare` has options for this)")
    prepared = prepare(DataParams(source=str(path)), CleaningParams())
    with tempfile.TemporaryDirectory(prefix="curate-") as folder:
        file = Path(folder) / "pairs.parquet"
        files.write_parquet(prepared.pairs, file, {})
        yield Pairs(file, prepared.rejects)


def weighted(source: str, *stages: str) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Weighted pairs and their provenance: of a file, or of hub:owner/name[@revision] that was published."""
    if source.startswith("hub:"):
        from curate.hub.load import load

        return load(source, *stages)
    return read_artefact(source, *stages), files.read_provenance(source)


def rejects_path(out: Path) -> Path:
    return out.with_suffix(".rejects.parquet")


@contextmanager
def with_rejects(out: Path, stage: str) -> Iterator[tuple[Path, Callable[..., Path | None]]]:
    """`out` and the rejects beside it, as one: a path to write to, and what writes the rejects (provenance, frames).

    Without rejects there is no such file (None), and what an earlier run of `stage` left there goes.
    """
    path = rejects_path(out)

    def ours(there: Path) -> bool:
        return files.read_provenance(there).get("stage") == stage

    with files.replacing_together(out, path, ours=ours) as (new, new_rejects):

        def keep(provenance: dict[str, Any], *frames: pl.DataFrame) -> Path | None:
            rejects = pl.concat(frames)
            if rejects.is_empty():
                return None
            files.write_parquet(rejects, new_rejects, provenance | {"artefact": "rejects"})
            return path

        yield new, keep
