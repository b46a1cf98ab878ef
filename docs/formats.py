"""The text of docs/formats.md, its table from the formats' own declarations; `python docs/write.py` writes it."""

from __future__ import annotations

from curate.pairs.sources import FORMATS
from curate.pairs.sources.format import Format
from curate.pairs.sources.mapping import TARGETS
from curate.pairs.sources.replies import BESIDE, RATED
from curate.pairs.sources.turns import ROLES

TEXT = """# Input formats

Written by `python docs/write.py` from `curate/pairs/sources/`; a test holds it to them.

`curate prepare` reads JSON (an array, one object per line or over several lines, or one object around the list of
rows), CSV, TSV and Parquet, each also as .gz or .zst, and `hub:owner/name`. The kind of a file is told by its bytes;
its name only tells CSV from TSV. A file has one format, recognised by its rows' fields ([the list](#the-formats)).
If two fit, the error names both: choose with `--format`.

## A file of your own

If your file is in none of the formats, name its fields, ours on the left and the file's on the right:
`curate prepare quiz.jsonl --field prompt=question --field chosen=answers.0.text --field rejected=answers.1.text`.
A dot goes into objects and lists. In params.yaml: `data:
{{fields: {{prompt: question, chosen: better, rejected: worse}}}}`.

- Our names are: {targets}.
- A column that no row has is an error.
- A name that you do not give stands for itself. But if you name another column for a response, its labels and ratings
  are read only if you name them, too.

`--format dataset_info` reads the fields from LLaMA-Factory's `dataset_info.json` beside the file: the entry with the
file's name and `ranking: true`, its `columns` and `tags`. In a pipeline the two files need a folder of their own, which
is `data.watch`.

## How rows are read

- **A system text** in a field of its own ({system}) becomes the first turn.
- **Columns not used** are named, and so are fields of turns (`chosen.weight`) and other objects. `--keep COLUMN`
  keeps a column, `--keep NAME=COLUMN` renames it. Of a pair from several rows it is the chosen response's.
- **Roles** may be called: {roles}. Content may be a list of text parts, which are joined.
- **Rejected, with the reason**: an image, a tool call, reasoning in a field of its own, a null, and a JSON object that
  has the same field twice.
- **Left out, and counted**: tools that come with an OpenAI prompt, and replies without a rating beside others with one.
- **No prompt is made from the answers.** Two plain texts without a prompt are read only with `--format trl`, and never
  if a field could be the prompt.
- **No label is made from a file's shape.** `{{prompt, response: [a, b]}}` says which is preferred and nothing about
  safety; `--format pku_ranked` declares the first safe and the second unsafe. Responses that are labelled both safe and
  unsafe are counted.
- **Transcripts** like HH-RLHF's ("\\n\\nHuman: ...\\n\\nAssistant:") are split into turns, also as a prompt and as
  replies that repeat it. Lines within a turn that begin like another turn are counted. If a format's prompt is plain
  text (BeaverTails, PKU-SafeRLHF, alpaca, ...), or a transcript has no empty lines between turns, it stays one user
  turn; such prompts are counted, with the first one's row and what would split them. A chat template's own text in a
  turn (`<|im_start|>`, `[INST]`) stays there; such pairs are counted, with the first one's row.
- **Turns stored as text**, as JSON or as Python or numpy print lists, are read from every kind of file. Text that
  begins like turns but cannot be read rejects its row. So does any other list or object stored as text in a field
  that has turns in most rows; elsewhere it is an answer in JSON.
- **Lists stored as text** are read likewise where a format expects a list ({lists}), and where a path of `--field`
  goes into one. To detect a format, text in `response` or `output` does not count as a list: name the format.

## Rows that are not pairs yet

Rankings, and single replies with a mark (KTO, BeaverTails), are paired within a prompt. `--pairing best` (the
default) pairs each worse reply with a best one, `adjacent` with one a step better, `all` with every better one.
Equally good replies take turns. A single reply that repeats an earlier one, mark included, is treated by `--duplicates`
as a pair is; otherwise it would count double. A reply without a partner is rejected as `unpaired`. The counts of rows
(read = used + rejected) and of pairs (made, kept) are given apart.

If your file has a column of lists of replies and one of lists of their ratings, rename these `responses` and `scores`,
and the question `prompt`: the format `ranking`.

## The formats

*Ratings* are two rewards under any of the names {rated}. With them are read chosen_cost, rejected_cost, margin, the
labels chosen_safe, rejected_safe, query_type, and system. If a row has rewards under several names, the first ones
with values are read; rows where these are not the first are counted, as the scale may differ.

| format | what it is | also read | schema |
|---|---|---|---|
{rows}
"""


def text() -> str:
    """The file."""
    return TEXT.format(
        system="`system`, `system_prompt`",
        roles=", ".join(ROLES),
        targets=", ".join(TARGETS),
        lists=", ".join(sorted({name for known in FORMATS.values() for name in known.lists})),
        rated=", ".join("/".join(names) for names in RATED),
        rows="\n".join(map(_row, FORMATS.values())),
    )


def _row(known: Format) -> str:
    own = sorted(known.reads - BESIDE)
    besides = ", ".join([*own, *(["ratings"] if known.reads >= BESIDE else sorted(known.reads & BESIDE))])
    card = f"[card]({known.card})" if known.card else ""
    about = known.about.replace("|", "\\|")
    return f"| `{known.name}` | {about} | {besides} | {card} |"
