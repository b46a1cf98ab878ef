"""What several commands read: a pairs file of ours, or a raw file that is prepared on the way; weighted pairs.

A dataset that was published may lie in a folder, downloaded or written by `curate publish --dry-run`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from curate.base import files
from curate.base.progress import say
from curate.cli.options import rejects_path
from curate.pairs.artefact import read_with_provenance, unchanged
from curate.pairs.schema import PAIRS, REJECTS
from curate.project.params import CleaningParams, DataParams, is_file
from curate.selection import measure


class Pairs(NamedTuple):
    file: Path  # columns: at least schema.PAIRS
    rejects: pl.DataFrame  # schema.REJECTS


@contextmanager
def pairs(path: Path, limit: int = 0) -> Iterator[Pairs]:
    """A pairs file: `path` itself where it is one of ours; else it is made for this block.

    A raw file is prepared with the defaults. With a `limit` the file has the first so many pairs.

    Raises:
        InputError: nothing there.
    """
    with _pairs(path) as found:
        if not limit:
            yield found
            return
        check = unchanged(found.file)
        first = pl.scan_parquet(found.file, glob=False).head(limit).collect()
        provenance = files.read_provenance(found.file)
        check()
        with _as_file(first, provenance) as file:
            yield Pairs(file, found.rejects)


@contextmanager
def _pairs(path: Path) -> Iterator[Pairs]:
    if is_file(str(path)):
        files.existing(path)
    if path.is_dir():
        from curate.hub.load import load_folder

        loaded = load_folder(path, "pairs")
        with _as_file(loaded.frame, loaded.provenance) as file:
            yield Pairs(file, pl.DataFrame(schema=REJECTS))
        return
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
    with _as_file(prepared.pairs, {}) as file:
        yield Pairs(file, prepared.rejects)


@contextmanager
def _as_file(frame: pl.DataFrame, provenance: dict[str, Any]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="curate-") as folder:
        file = Path(folder) / "pairs.parquet"
        files.write_parquet(frame, file, provenance)
        yield file


def model_option(provenance: dict[str, Any]) -> str:
    """How `--model` takes the model of scores, by their record: a Hub id, or a folder's name where it is here; else
    MODEL, for no more of a path than its last part is recorded."""
    record = measure.model(provenance)
    name = str(record.get("name", ""))
    return name if record.get("commit") or (name and Path(name).is_dir()) else "MODEL"


def weighted(source: str, *stages: str) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Weighted pairs and their provenance: of a file, of hub:owner/name[@revision] that was published, or its folder.

    Raises:
        InputError: they cannot be read, or lack the columns of `stages`.
    """
    if source.startswith("hub:"):
        from curate.hub.load import load

        return load(source, *stages)
    if Path(source).is_dir():
        from curate.hub.load import load_folder

        return load_folder(Path(source), *stages)
    return read_with_provenance(source, *stages)


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
