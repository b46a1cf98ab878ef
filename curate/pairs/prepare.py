"""Raw preference data into pairs: read, parse, clean, split by prompt. Nothing vanishes.

Rows read = rows used + rows rejected; where a row is a pair, used = kept. Formats whose rows are single replies or
rankings make more pairs than rows, or fewer; then pairs made and kept are counted besides.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

import curate
from curate.base import limits
from curate.base.errors import InputError, UsageError
from curate.base.files import replacing_together, write_json, write_parquet
from curate.base.progress import say
from curate.pairs import heldout
from curate.pairs.belonging import ids_digest
from curate.pairs.cleaning import RULES, clean
from curate.pairs.identity import question_keys
from curate.pairs.keeping import kept_columns, wanted
from curate.pairs.marks import MARKS
from curate.pairs.schema import OPTIONAL, PAIRS, REJECTS, QueryType, Split
from curate.pairs.sources import dataset_info
from curate.pairs.sources.choosing import choose
from curate.pairs.sources.format import Format
from curate.pairs.sources.mapping import check_asked, mapped
from curate.pairs.sources.parsing import Frames, parse
from curate.pairs.sources.reading import First, Source, read
from curate.pairs.sources.text import as_json
from curate.pairs.sources.turns import IN_A_TURN, OF_A_TEMPLATE
from curate.pairs.transcripts import like_transcripts, note
from curate.project.params import CleaningParams, DataParams

ROWS_NAMED = 5
"""How many row numbers of each rule the summary names."""


class Prepared(NamedTuple):
    pairs: pl.DataFrame  # schema.PAIRS and those of schema.OPTIONAL that some pair has, in the order of the source
    rejects: pl.DataFrame  # curate.pairs.schema.REJECTS, likewise
    summary: dict[str, Any]  # what prepare.json holds


def prepare(data: DataParams, cleaning: CleaningParams, *, strict: bool = False) -> Prepared:
    """Read `data.source` and make pairs of it, by the rules of `curate.pairs.cleaning`.

    Args:
        strict: a malformed record or a null prompt is an error, not a reject.

    Raises:
        InputError: the source cannot be read, its format is not known, no pair is left, or (`strict`) a row
            is malformed; it names file, row and field.
        UsageError: `data.format` is no format.
    """
    with limits.given(data.input_limit):
        return _prepared(data, cleaning, strict)


def _prepared(data: DataParams, cleaning: CleaningParams, strict: bool) -> Prepared:
    source = read(data)
    if data.limit:
        source = source._replace(records=First(source.records, data.limit))
    form = format_of(data, source)
    check_asked(source.records, form.asked, source.path)
    found = parse(source, form, data.pairing, strict=strict, duplicates=cleaning.duplicates)
    kept, more = clean(found.parsed, cleaning)
    refused, used = _rejected(found, kept, more)
    if used.len() + refused.height != found.read:
        raise AssertionError(f"read {found.read}, used {used.len()}, rejected {refused.height}")
    if kept.is_empty():
        raise InputError(
            "no pair is left; nothing was written",
            file=source.path,
            found=", ".join(f"{rule} {n}" for rule, n in refused["rule"].value_counts(sort=True).iter_rows()),
            expected=f"rows in the format {form.name}: {form.about}",
            remedy=f"the first row is refused because: {refused['reason'][0]}",
        )
    kept = _unique_ids(kept).with_columns(split=_split(kept, found.parsed, data, source))
    rated = {name: dtype for name, dtype in OPTIONAL.items() if kept[name].count()}
    pairs = kept.select(pl.col(name).cast(dtype) for name, dtype in (PAIRS | rated).items())
    beside = kept_columns(source.records, kept["at"].to_list(), data.keep, source.path)
    pairs = pairs.with_columns(beside)
    kept_whole = {column for _, column in wanted(data.keep)}
    unused = [name for name in found.unused if name not in kept_whole]
    unused += [name for name in source.beside if name not in unused]
    transcripts = like_transcripts(kept)
    templated = kept.filter(_marked(OF_A_TEMPLATE))["at"]
    rejects = refused.with_columns(
        source=pl.lit(source.name),
        source_row="row",
        row=pl.Series(_as_they_are(source, refused["row"]), dtype=pl.String),
    ).select(pl.col(name).cast(dtype) for name, dtype in REJECTS.items())
    summary = {
        "source": source.name,
        "source_digest": source.digest,
        "format": form.name,
        "format_detected": data.format == "auto" and not data.fields,
        "read": found.read,
        "used": used.len(),
        "rejected": rejects.height,
        "made": found.parsed.height,
        "kept": pairs.height,
        "rules": _rules(refused),
        "rules_of_pairs": _rules_of_pairs(found, more),
        "marks": _marks(kept, found, used, transcripts.height, templated.len()),
        "labels": _labels(found.labels, kept),
        "pair_ids": ids_digest(pairs),
        "columns": {
            "unused": unused,
            "unused_within": [name for name in found.unused_within if name.partition(".")[0] not in kept_whole],
            "kept": [column.name for column in beside],
        },
        "pairs": _counts(pairs),
        "params": {"data": data.record(), "cleaning": cleaning.model_dump(), "strict": strict},
    }
    say(f"prepare: {_account(summary)}")
    _say_notes(transcripts, templated, form)
    return Prepared(pairs, rejects, summary)


def _say_notes(transcripts: pl.DataFrame, rows: pl.Series, form: Format) -> None:
    """What of the texts is read as it stands, and may be meant otherwise: prompts that look like transcripts, and a
    chat template's own text, in `rows`."""
    if transcripts.height:
        say(f"prepare: note: {note(transcripts, form)}")
    if rows.len():
        say(
            f"prepare: note: {rows.len():,} {'pair has' if rows.len() == 1 else 'pairs have'} a chat template's own "
            f"text (<|im_start|>, [INST], ...) in a turn, first in row {rows.min()}; it stays there, and the model's "
            "template is put around it: take it out, or give the turns as lists of messages"
        )


def _as_they_are(source: Source, rows: pl.Series) -> list[str]:
    """The source's rows of these numbers, which rise, as JSON."""
    if rows.is_empty():
        return []
    wanted = set(rows)
    return [as_json(record) for row, record in enumerate(source.records) if row in wanted]


def write(prepared: Prepared, pairs: str | Path, rejects: str | Path, summary: str | Path) -> None:
    """Write the three outputs as one: all of them are of this run, whoever else writes there.

    Raises:
        OutputError: a file cannot be written; what was there stays.
    """
    provenance = {
        "stage": "prepare",
        "curate": curate.__version__,
        "params": prepared.summary["params"],
        "source_digest": prepared.summary["source_digest"],
    }
    with replacing_together(pairs, rejects, summary) as (new_pairs, new_rejects, new_summary):
        write_parquet(prepared.pairs, new_pairs, provenance)
        write_parquet(prepared.rejects, new_rejects, provenance)
        write_json(prepared.summary, new_summary)


def format_of(data: DataParams, source: Source) -> Format:
    """The format that the user named, by its name or field by field, or the one that the rows have."""
    if data.format == dataset_info.NAME and not data.fields:
        return dataset_info.described(data.source)
    if not data.fields:
        return choose(data.format, source.records, source.path)
    if data.format != "auto":
        raise UsageError(
            "fields and a format are both named", field="format", found=data.format, expected="one of them"
        )
    return mapped(data.fields)


def _rejected(found: Frames, kept: pl.DataFrame, more: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
    """The source's rows that no kept pair has, each with the first rule that refused it or its pair; and those used.

    Returns:
        curate.pairs.cleaning.REFUSED, `row` the source's, sorted by it; and the other rows.
    """
    used = found.members.join(kept, on="row", how="semi")["at"].unique()
    of_pairs = (
        found.members.join(more.with_row_index("nth"), on="row")
        .filter(~pl.col("at").is_in(used.implode()))
        .sort("at", "nth")
        .unique("at", keep="first", maintain_order=True)
        .select(row="at", rule="rule", reason="reason")
    )
    return pl.concat([found.refused, of_pairs]).sort("row"), used


def _rules_of_pairs(found: Frames, more: pl.DataFrame) -> dict[str, int]:
    """Pairs refused by each rule, where a row is not a pair: a row that another pair uses is no reject."""
    if found.parsed["row"].equals(found.parsed["at"]):
        return {}
    return dict(more["rule"].value_counts(sort=True).iter_rows())


def _account(summary: dict[str, Any]) -> str:
    """Where the rows went, in one line."""
    read, used, rejected, made, kept = (summary[name] for name in ("read", "used", "rejected", "made", "kept"))
    if used == kept:
        return f"read {read:,} = kept {kept:,} + rejected {rejected:,}"
    return f"read {read:,} = used {used:,} + rejected {rejected:,}; pairs made {made:,}, kept {kept:,}"


def _unique_ids(pairs: pl.DataFrame) -> pl.DataFrame:
    """Where duplicates are kept, the second of a pair gets -1 after its id, the third -2, in row order."""
    nth = pl.int_range(pl.len()).over("pair_id")
    return pairs.with_columns(
        pair_id=pl.when(nth > 0).then(pl.format("{}-{}", "pair_id", nth)).otherwise(pl.col("pair_id"))
    )


def _split(pairs: pl.DataFrame, parsed: pl.DataFrame, data: DataParams, source: Source) -> pl.Series:
    """The split that a prompt came with, whatever its system turn, be it in a row that is refused; for the other
    prompts, a draw.
    """
    came = parsed.filter(pl.col("split").is_not_null()).select("at", "prompt", "prompt_key", given="split")
    came = came.with_columns(question_keys(came))
    torn = came.filter(pl.col("given").n_unique().over("question_key") > 1)
    if not torn.is_empty():
        raise InputError(
            "a prompt is on both sides of the split that the file brings",
            file=source.path,
            row=torn["at"][0],
            field="split",
            found=f"{torn['question_key'].n_unique()} such prompts",
            expected="each prompt in train or in heldout, also where its system turns differ",
            remedy="set split to null: those rows then get a split by prompt",
        )
    given = came.unique("question_key").select("question_key", "given")
    pairs = pairs.with_columns(question_keys(pairs)).join(given, on="question_key", how="left", maintain_order="left")
    new = pairs.filter(pl.col("given").is_null())
    if new.is_empty() and not (pairs["given"] == Split.HELDOUT.value).any():
        both = "; hub_split: train+test reads both sides" if data.source.startswith("hub:") else ""
        say(f"prepare: warning: no pair is held out, for all of them came with the split train{both}")
    drawn = new.select("row", drawn=heldout.draw(new, data.heldout_fraction, data.seed))
    return pairs.join(drawn, on="row", how="left", maintain_order="left").select(split=pl.coalesce("given", "drawn"))[
        "split"
    ]


def _rules(refused: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Per rule that refused a row, in their order: count, meaning, first rows."""
    rows = {rule: part["row"] for (rule,), part in refused.group_by("rule", maintain_order=True)}
    return {
        rule: {"count": rows[rule].len(), "meaning": meaning, "first_rows": rows[rule].head(ROWS_NAMED).to_list()}
        for rule, meaning in RULES.items()
        if rule in rows
    }


def _marks(kept: pl.DataFrame, found: Frames, used: pl.Series, transcripts: int, templated: int) -> dict[str, int]:
    counts = Counter(kept["marks"].explode(empty_as_null=False).to_list())
    counts["rated_alike"] = kept.filter(pl.col("chosen_reward") == pl.col("rejected_reward")).height
    by_safety = (pl.col("chosen_safe") & ~pl.col("rejected_safe")).fill_null(False)
    counts["rated_below"] = kept.filter((pl.col("chosen_reward") < pl.col("rejected_reward")) & ~by_safety).height
    counts["unsafe_chosen"] = kept.filter(~pl.col("chosen_safe") & pl.col("rejected_safe")).height
    counts["margin_below_zero"] = kept.filter(pl.col("margin") < 0).height
    counts["query_type_is_not_the_labels"] = kept.filter(_unlike_labels()).height
    counts["markers_in_a_turn"] = kept.filter(_marked(IN_A_TURN)).height
    counts["template_in_a_turn"] = templated
    counts["transcript_prompts"] = transcripts
    rows = set(used)
    counts["crlf"] = len(found.crlf & rows)
    counts["unrated_replies"] = sum(count for row, count in found.unrated.items() if row in rows)
    counts["most_pairs_of_a_prompt"] = int(kept["prompt_key"].value_counts()["count"].max())
    return {mark: counts[mark] for mark in MARKS if counts[mark]}


def _unlike_labels() -> pl.Expr:
    """Whether a query type that is known is another than the labels' (docs/columns.md), where both of these are."""
    labels = pl.when(pl.col("chosen_safe") != pl.col("rejected_safe")).then(pl.lit("unsafe")).otherwise(pl.lit("safe"))
    known = (pl.col("query_type") != "unknown") & pl.col("chosen_safe").is_not_null()
    return known & pl.col("rejected_safe").is_not_null() & (pl.col("query_type").cast(pl.String) != labels)


def _marked(pattern: str) -> pl.Expr:
    """Whether a turn of the pair holds the pattern."""
    holds = pl.element().struct.field("content").str.contains(pattern)
    return pl.any_horizontal(pl.col(side).list.eval(holds).list.any() for side in ("prompt", "chosen", "rejected"))


def _labels(read: pl.DataFrame, kept: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Responses (texts to a prompt) with a safety label, and those labelled both safe and unsafe, in different rows."""
    if read.is_empty():
        return {}
    sides = [
        kept.select("prompt_key", reply=pl.col(side).list.last().struct.field("content"), safe=f"{side}_safe")
        for side in ("chosen", "rejected")
    ]
    left = pl.concat(sides).drop_nulls("safe").unique()
    return {
        name: {"responses": labels.select(of).n_unique(), "both_ways": labels.height - labels.select(of).n_unique()}
        for name, labels, of in (("read", read, ["reply"]), ("kept", left, ["prompt_key", "reply"]))
    }


def _counts(pairs: pl.DataFrame) -> dict[str, dict[str, dict[str, int]]]:
    """Pairs and prompts by query type and split."""
    found = {
        (query_type, split): {"pairs": n, "prompts": prompts}
        for query_type, split, n, prompts in pairs.group_by("query_type", "split")
        .agg(pairs=pl.len(), prompts=pl.col("prompt_key").n_unique())
        .iter_rows()
    }
    return {
        query_type.value: {
            split.value: found.get((query_type.value, split.value), {"pairs": 0, "prompts": 0}) for split in Split
        }
        for query_type in QueryType
        if any((query_type.value, split.value) in found for split in Split)
    }
