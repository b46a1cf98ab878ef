"""What is published, as a folder: data files, figure, manifest, card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from curate import __version__
from curate.base import files
from curate.base.errors import InputError
from curate.base.progress import say
from curate.base.public import public
from curate.hub import card, dataset, licences, lineage, merge
from curate.pairs.identity import on_both_sides
from curate.pairs.manifest import MANIFEST, File, Manifest
from curate.pairs.marks import MARKS
from curate.project.params import PublishParams, ReportParams

FIGURE = "mutual-information.png"


class Folder(NamedTuple):
    """Everything but the card lies in `path`; the card depends on the one that is there already."""

    path: Path
    manifest: Manifest
    front: dict[str, Any]
    body: str
    asked: frozenset[str]

    def write_card(self, existing: str, where: str) -> None:
        """README.md, with what the owner of `existing` wrote."""
        merged = merge.merge(existing, self.front, self.body, where, self.asked)
        (self.path / card.CARD).write_bytes(merged.encode())


def write(
    path: Path,
    repo: str,
    frame: pl.DataFrame,
    weights: Path,
    licence: licences.Licence,
    params: PublishParams,
    prepared: Mapping[str, Any],
) -> Folder:
    """Write data/, the figure and the manifest into the empty folder `path`.

    Args:
        frame: columns schema.PAIRS, SCORES and WEIGHTS; with SPLITS there are the subsets too.
        weights: the file that it was read from.
        prepared: prepare.json, or empty.

    Raises:
        InputError: no pairs, or a prompt on both sides of the split.
    """
    if frame.is_empty():
        raise InputError("there is nothing to publish", file=weights, found="no pair")
    _check_sides(frame, weights)
    columns = dataset.published_columns(frame)
    if left := [name for name in frame.columns if name not in columns]:
        say(f"publish: columns that are not curate's stay here: {', '.join(left)}")
    configs = dataset.write(frame, path)
    drawing = _draw(frame, path)
    rows = {part.path: part.rows for sides in configs.values() for parts in sides.values() for part in parts}
    manifest = Manifest(
        version=__version__,
        license=licence.name,
        sources=licence.sources,
        configs={
            name: {side: [part.path for part in parts] for side, parts in sides.items()}
            for name, sides in configs.items()
        },
        files=describe(path, rows),
        weights=files.file_digest(weights),
        pipeline=lineage.lineage(weights, Path.cwd()),
        provenance=public(files.read_provenance(weights)),
        prepare=_counts(prepared),
    )
    (path / MANIFEST).write_text(manifest.text(), encoding="utf-8")
    front = card.front_matter(repo, manifest, configs, columns, params)
    asked = frozenset({"pretty_name"} if params.pretty_name else ())
    return Folder(path, manifest, front, card.body(repo, front["pretty_name"], manifest, columns, drawing), asked)


def _check_sides(frame: pl.DataFrame, weights: Path) -> None:
    """Raise `InputError` where a prompt is on both sides of the split: the card says that none is."""
    rows = frame.select(pl.arg_where(on_both_sides(frame))).to_series()
    if rows.len():
        raise InputError(
            "a prompt is on both sides of the split, so that held-out pairs measure nothing",
            file=weights,
            row=rows[0],
            field="split",
            found=f"{rows.len():,} rows of such prompts",
            expected="each prompt in train or in heldout",
            remedy="`curate prepare` of the source draws it so; `curate show` names the rows",
        )


def describe(folder: Path, rows: Mapping[str, int]) -> dict[str, File]:
    """Every file under `folder`; `rows` of the data files, by path."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name: File(bytes=path.stat().st_size, sha256=files.file_digest(path), rows=rows.get(name))
        for name, path in found.items()
    }


def _counts(prepared: Mapping[str, Any]) -> dict[str, Any]:
    """Of prepare.json what the card tells: how many rows each rule refused, and what was noted of those kept."""
    if not prepared:
        return {}
    return {
        **{name: prepared[name] for name in ("read", "kept", "rejected")},
        "rules": {
            rule: {"count": about["count"], "meaning": about["meaning"]} for rule, about in prepared["rules"].items()
        },
        "marks": {MARKS.get(mark, mark): count for mark, count in prepared.get("marks", {}).items()},
    }


def _draw(frame: pl.DataFrame, folder: Path) -> card.Drawing | None:
    """The report's scatter of mutual information; None where it cannot be drawn, which is said."""
    try:
        import statsmodels  # noqa: F401  (the figure's intervals)

        from curate.reporting import canvas, figures
    except ModuleNotFoundError as error:
        say(f"publish: the figure is left out: no {error.name} (pip install 'curate-preferences[report]')")
        return None
    scored = figures.finite(frame)
    if scored.is_empty():
        say("publish: the figure is left out, for no pair has a finite mutual information")
        return None
    with canvas.style():
        drawn = figures.scatter(scored, ReportParams.model_validate({}).scatter_points)
        drawn.figure.savefig(folder / FIGURE, format="png", dpi=150, metadata={"Software": None})
    return card.Drawing(FIGURE, drawn.alt, drawn.reading)
