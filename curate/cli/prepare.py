"""`curate prepare`"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from curate.cli.inputs import rejects_path
from curate.cli.options import Out, check_out, with_params
from curate.pairs.sources import FORMATS
from curate.project.params import CleaningParams, DataParams


class _Options(DataParams, CleaningParams):
    """The keys of both sections are this command's options."""


@with_params(_Options, skip=("source", "watch"))
def prepare(
    source: Annotated[str, typer.Argument(metavar="INPUT", help=DataParams.model_fields["source"].description)],
    out: Out,
    params: _Options,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first malformed row or null prompt.")] = False,
) -> None:
    check_out(out, source)
    from curate.base.progress import say
    from curate.pairs.prepare import prepare as run
    from curate.pairs.prepare import write

    given = params.model_dump()
    data = DataParams(**{name: given[name] for name in DataParams.model_fields} | {"source": source})
    cleaning = CleaningParams(**{name: given[name] for name in CleaningParams.model_fields})
    prepared = run(data, cleaning, strict=strict)
    rejects, summary = rejects_path(out), out.with_suffix(".prepare.json")
    write(prepared, out, rejects, summary)
    say(table(prepared.summary))
    say(f"wrote {out}, {rejects.name}, {summary.name}")


prepare.__doc__ = """Read preference data, clean it, split it by prompt, and write one file of pairs.

Beside OUT (pairs.parquet, say) stand pairs.rejects.parquet, every refused row with its rule and reason,
and pairs.prepare.json, the counts. Rows count from 0.

\b
Formats (--format):
""" + "\n".join(f"  {known.name:<14}{known.about}" for known in FORMATS.values())


def table(summary: dict[str, Any]) -> str:
    """The summary for a person: rows, rules with their first rows, marks, and the split by query type."""
    from curate.pairs.cleaning import RULES
    from curate.pairs.prepare import MARKS

    how = "detected" if summary["format_detected"] else "as told"
    lines = [f"{summary['source']}: format {summary['format']} ({how})"]
    lines += [f"  {name:<22}{summary[name]:>8,}" for name in ("read", "kept", "rejected")]
    for rule, found in summary["rules"].items():
        rows = ", ".join(map(str, found["first_rows"])) + (", …" if found["count"] > len(found["first_rows"]) else "")
        lines.append(f"    {rule:<20}{found['count']:>8,}  {RULES[rule]}; rows {rows}")
    lines += [f"  {mark:<22}{count:>8,}  {MARKS[mark]}" for mark, count in summary["marks"].items()]
    if summary["labels"]:
        read, kept = (
            "{both_ways:,} of {responses:,}".format(**summary["labels"].get(at, {"both_ways": 0, "responses": 0}))
            for at in ("read", "kept")
        )
        lines.append(f"  responses labelled both safe and unsafe: {read}; of those kept, {kept}")
    lines.append(f"  {'pairs (prompts)':<22}{'train':>18}{'heldout':>18}")
    for query_type, splits in summary["pairs"].items():
        cells = (f"{splits[split]['pairs']:,} ({splits[split]['prompts']:,})" for split in ("train", "heldout"))
        lines.append(f"    {query_type:<20}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join(lines)
