"""`curate prepare`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from curate.base.progress import quoted
from curate.cli.options import (
    Fields,
    Keep,
    Out,
    assignments,
    check_beside,
    check_out,
    rejects_path,
    say_next,
    with_keys,
    with_params,
)
from curate.pairs.sources import FORMATS
from curate.project.params import CleaningParams, DataParams


class _Options(DataParams, CleaningParams):
    """The keys of both sections are this command's options."""


@with_params(_Options, skip=("source", "watch", "fields", "keep"))
def prepare(
    source: Annotated[str, typer.Argument(metavar="INPUT", help=DataParams.model_fields["source"].description)],
    params: _Options,
    out: Out = Path("pairs.parquet"),
    field: Fields = None,
    keep: Keep = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first malformed row or null prompt.")] = False,
) -> None:
    rejects, summary = rejects_path(out), out.with_suffix(".prepare.json")
    check_out(out, source)
    check_beside(rejects, source)
    check_beside(summary, source, with_keys("params", "source_digest"))
    from curate.base.progress import say
    from curate.pairs.prepare import prepare as run
    from curate.pairs.prepare import write

    given = params.model_dump()
    own = {"source": source, "fields": assignments(field or []), "keep": keep or []}
    data = DataParams(**{name: given[name] for name in DataParams.model_fields} | own)
    cleaning = CleaningParams(**{name: given[name] for name in CleaningParams.model_fields})
    prepared = run(data, cleaning, strict=strict)
    write(prepared, out, rejects, summary)
    say(table(prepared.summary))
    say(f"wrote {out}, {rejects.name}, {summary.name}")
    say_next(f"curate score {quoted(out)} --model MODEL")


prepare.__doc__ = """Read preference data and write one clean file of pairs.

Part of the prompts is held out of training. Beside OUT (pairs.parquet, say) stand pairs.rejects.parquet, every refused
row with its rule and reason, and pairs.prepare.json, the counts. Rows count from 0.

\b
Formats (--format):
""" + "\n".join(f"  {known.name:<26}{known.about}" for known in FORMATS.values())


def table(summary: dict[str, Any]) -> str:
    """The summary for a person: rows, rules with their first rows, marks, and the split by query type."""
    from curate.pairs.cleaning import RULES
    from curate.pairs.marks import MARKS
    from curate.pairs.sources.base import named
    from curate.pairs.sources.mapping import TARGETS

    how = "detected" if summary["format_detected"] else "as told"
    lines = [f"{summary['source']}: format {summary['format']} ({how})"]
    if summary["format_detected"] and (hint := FORMATS[summary["format"]].hint):
        lines.append(f"  {hint}")
    single = summary["used"] == summary["kept"]
    counted = ("read", "kept", "rejected") if single else ("read", "used", "rejected", "made", "kept")
    lines += [
        f"  {name + ' pairs' * (name in ('made', 'kept') and not single):<22}{summary[name]:>8,}" for name in counted
    ]
    lines += [f"    {rule:<20}{count:>8,}  pairs: {RULES[rule]}" for rule, count in summary["rules_of_pairs"].items()]
    for rule, found in summary["rules"].items():
        rows = ", ".join(map(str, found["first_rows"])) + (", …" if found["count"] > len(found["first_rows"]) else "")
        lines.append(f"    {rule:<20}{found['count']:>8,}  {RULES[rule]}; rows {rows}")
    told = {mark: count for mark, count in summary["marks"].items() if (mark, count) != ("most_pairs_of_a_prompt", 1)}
    lines += ["  kept, and worth knowing:"] if told else []
    lines += [f"    {'':<20}{count:>8,}  {MARKS[mark]}" for mark, count in told.items()]
    if summary["columns"]["unused"]:
        lines.append(f"  columns not used: {named(summary['columns']['unused'])} (--keep COLUMN keeps one)")
    if within := summary["columns"]["unused_within"]:
        lines.append(f"  fields of objects not used: {named(within)} (--keep NAME=COLUMN keeps the whole column)")
    if left := [name for name in summary["columns"]["unused"] if name in TARGETS and summary["format"] == "mapped"]:
        lines.append(
            f"  of these, by their names another response's: {named(left)} (--field {left[0]}={left[0]} reads it)"
        )
    if summary["labels"]:
        read, kept = ("{both_ways:,} of {responses:,}".format(**summary["labels"][at]) for at in ("read", "kept"))
        lines.append(f"  responses labelled both safe and unsafe: {read}; of those kept, {kept}")
    lines.append(f"  {'pairs (prompts)':<22}{'train':>18}{'heldout':>18}")
    for query_type, splits in summary["pairs"].items():
        cells = (f"{splits[split]['pairs']:,} ({splits[split]['prompts']:,})" for split in ("train", "heldout"))
        lines.append(f"    {query_type:<20}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join(lines)
