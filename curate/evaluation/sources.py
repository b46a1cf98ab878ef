"""What `NAME=SOURCE` means: a suite, and the rows of its file or Hub dataset under the suite's own field names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from curate.base import files
from curate.base.errors import InputError, UsageError
from curate.base.progress import say
from curate.evaluation.items import Item
from curate.evaluation.suites import suite_of
from curate.evaluation.suites.base import Suite, layouts
from curate.evaluation.suites.behaviours import CONTEXT
from curate.pairs.identity import digest, draw_order
from curate.pairs.manifest import MANIFEST, read_folder, verified
from curate.pairs.sources.base import kind, named
from curate.pairs.sources.files import open_file
from curate.pairs.sources.reading import Source, read
from curate.pairs.sources.text import sound_rows
from curate.project.params import DataParams, EvaluateParams, check

_HUB = re.compile(r"(?P<id>hub:[^/#:@]+/[^/#:@]+)(@(?P<revision>[^#:]+))?(:(?P<config>[^#]+))?(#(?P<split>.+))?")
FORM = "hub:owner/name[@revision][:config][#split]"
SAMPLE = "sample"
"""The source of the embedded sample's behaviours, which attacks can be tried on; the truth about the answers is known.
"""
SAMPLE_BEHAVIOURS = 100  # the first of the suite `sample`'s unsafe queries


class Named(NamedTuple):
    """A suite and where its rows come from."""

    suite: Suite
    source: str | None  # a file, FORM, a published folder, `sample`, or None: the suite has its own
    options: Any  # suite.options


class Loaded(NamedTuple):
    """A suite and its items."""

    named: Named
    items: list[Item]
    digest: str | None  # of the source
    repeated: int  # items that another is the same as: left out


def parse(params: EvaluateParams) -> list[Named]:
    """The suites that params name.

    Raises:
        UsageError: an unknown suite, one named twice, one that wants a source and has none, or wrong options.
    """
    found: dict[str, Named] = {}
    for text in params.suites:
        name, named, source = text.partition("=")
        suite = suite_of(name)
        if name in found:
            raise UsageError("a suite is named twice", field="suite", found=name)
        if named and not suite.columns:
            raise UsageError("this suite has its own rows", field="suite", found=text, expected=name)
        if suite.columns and not (source or suite.source):
            raise UsageError("this suite wants a source", field="suite", found=text, expected=f"{name}=FILE")
        found[name] = Named(suite, source or suite.source, _options(suite, params.options.get(name, {})))
    if strange := set(params.options) - set(found):
        raise UsageError(
            "options for a suite that is not evaluated",
            field="evaluate.options",
            found=", ".join(sorted(strange)),
            expected=", ".join(found),
        )
    return list(found.values())


def _options(suite: Suite, given: dict[str, Any]) -> Any:
    try:
        return check(suite.options, given)
    except UsageError as error:
        error.details["field"] = ".".join(filter(None, (suite.name, error.details.get("field"))))
        raise


def load(named: Named, limit: int, seed: int) -> Loaded:
    """The items of a suite: of each group those of a draw of `limit` prompts (0: all), the same ones in every group
    that has them, whatever the order of the rows.

    Raises:
        InputError: the source cannot be read, lacks a column, or gives no item.
    """
    suite = named.suite
    rows: Sequence[dict[str, Any]] = []
    sha256 = None
    if named.source is not None:
        source = _source(named.source)
        rows = [_renamed(suite, row, n, source.path) for n, row in enumerate(sound_rows(source.records, source.path))]
        sha256 = source.digest
    try:
        made = suite.items(rows, named.options)
    except InputError as error:
        error.details.setdefault("file", str(named.source))
        raise
    items = list({item.item: item for item in reversed(made)}.values())[::-1]
    if not items:
        raise InputError(f"the suite {suite.name} has no item", file=named.source, found=f"{len(rows)} rows")
    repeated = len(made) - len(items)
    if repeated:
        say(f"evaluate: {suite.name}: {repeated:,} items repeat another and count once")
    return Loaded(named, _draw(items, limit, seed) if limit else items, sha256, repeated)


def _source(name: str) -> Source:
    if name == SAMPLE:
        return _sample()
    return _published(Path(name)) if (Path(name) / MANIFEST).is_file() else read(_data_params(name))


def _published(folder: Path) -> Source:
    """All pairs of a published dataset's folder, whose files are those that were published."""
    records = [row for path in verified(read_folder(folder), folder, str(folder)) for row in open_file(path)]
    return Source(folder.name, str(folder), records, files.file_digest(folder / MANIFEST))


def _sample() -> Source:
    from curate.sample.generator import sample_behaviours

    rows = sample_behaviours(SAMPLE_BEHAVIOURS, 0)
    return Source(SAMPLE, SAMPLE, rows, digest(rows))


def _data_params(source: str) -> DataParams:
    if not source.startswith("hub:"):
        return DataParams.model_validate({"source": source})
    match = _HUB.fullmatch(source)
    if match is None:
        raise UsageError("cannot read the suite's source", found=source, expected=FORM)
    config, split, revision = match["config"], match["split"] or "train", match["revision"]
    return DataParams(source=match["id"], hub_config=config, hub_split=split, hub_revision=revision)


def _renamed(suite: Suite, row: Any, number: int, path: str) -> dict[str, Any]:
    """The row under the suite's own names; other fields are left out."""
    if not isinstance(row, dict):
        raise InputError(f"a row of the suite {suite.name} is no object", file=path, row=number, found=kind(row))
    renamed = []
    for columns in layouts(suite):
        found = {name: next((each for each in spellings if each in row), None) for name, spellings in columns.items()}
        renamed.append({name: row[spelling] for name, spelling in found.items() if spelling is not None})
        if len(renamed[-1]) == len(columns):
            return _in_context(renamed[-1], row.get(CONTEXT), number, path)
    # Of several ways to have a row, the error is about the one that lacks least.
    nearest = min(zip(layouts(suite), renamed, strict=True), key=lambda pair: len(pair[0]) - len(pair[1]), default=None)
    if nearest is None:
        return {}
    columns, there = nearest
    name = next(name for name in columns if name not in there)
    every = "; or ".join(", ".join(spellings[0] for spellings in some.values()) for some in layouts(suite))
    raise InputError(
        f"the suite {suite.name} lacks a column",
        file=path,
        row=number,
        field=name,
        found=named(row) or "no column",
        expected=" or ".join(columns[name]) + (f" (a row has {every})" if len(renamed) > 1 else ""),
        remedy="give a file with this column, or rename it",
    )


def _in_context(row: dict[str, Any], context: Any, number: int, path: str) -> dict[str, Any]:
    """A request that has a context stands behind it, as HarmBench's code asks them [code]."""
    goal = row.get("goal")
    if not isinstance(goal, str) or context is None or (isinstance(context, str) and not context.strip()):
        return row
    if not isinstance(context, str):
        raise InputError(
            "the context of a request is no text",
            file=path,
            row=number,
            field=CONTEXT,
            found=kind(context),
            expected="a text, or nothing",
        )
    return row | {"goal": f"{context}\n\n---\n\n{goal}"}


def _draw(items: Sequence[Item], limit: int, seed: int) -> list[Item]:
    prompts: dict[str, set[str]] = {}
    for item in items:
        prompts.setdefault(item.group, set()).add(item.cluster)
    order = dict(zip(clusters := sorted(set().union(*prompts.values())), draw_order(clusters, seed), strict=True))
    kept = {group: set(sorted(some, key=order.__getitem__)[:limit]) for group, some in prompts.items()}
    return [item for item in items if item.cluster in kept[item.group]]
