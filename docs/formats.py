"""The text of docs/formats.md, its table from the formats' own declarations; `python docs/write.py` writes it."""

from __future__ import annotations

from curate.pairs.sources import FORMATS
from curate.pairs.sources.format import Format
from curate.pairs.sources.mapping import TARGETS
from curate.pairs.sources.replies import BESIDE, RATED
from curate.pairs.sources.turns import ROLES

TEXT = """# Input formats

Written by `python docs/write.py` from `curate/pairs/sources/`; a test holds it to them.

`curate prepare` reads JSON (an array, objects one a line or over several lines, or one object around the list of
rows), CSV, TSV and Parquet, each also as .gz or .zst, and `hub:owner/name`. What a file is, its bytes say; its name
only tells CSV from TSV.

- **One file, one format**, found by the fields that its rows have. Where two fit, the error names both: choose with
  `--format`.
- **A field that stands twice** in an object of JSON is a reject: nobody knows which of the two is meant.
- **No prompt is made of the answers.** Two plain texts without a prompt are read only where `--format trl` says so,
  and never where a field could be the prompt.
- **No label is made of a file's shape.** `{{prompt, response: [a, b]}}` says which is preferred, nothing of safety;
  `--format pku_ranked` says that the first is safe and the second is not. Responses that are labelled both safe and
  unsafe are counted.
- **A system text** in a field of its own ({system}) becomes the first turn.
- **Columns not used** are named. `--keep COLUMN` takes one along, `--keep NAME=COLUMN` renames it; of pairs made
  from several rows it is the chosen response's.
- **Roles** by any of these names: {roles}. Content may be a list of text parts, which are joined; an image, a tool
  call, reasoning in a field of its own or a null is a reject that says so. Tools that an OpenAI prompt comes with are
  left out, and counted; so are replies without a rating beside others that have one.
- **Transcripts** as HH-RLHF has them ("\\n\\nHuman: ...\\n\\nAssistant:") are turns as a prompt, too, and as replies
  that repeat it. Lines within a turn that begin as another turn does are counted. Where a format's prompt is a plain
  text (BeaverTails, PKU-SafeRLHF, alpaca, ...), or a transcript has no empty lines between its turns, it stays one
  user turn: such prompts are counted, with the first one's row and what would split them.
- **Turns that a field holds as text**, as JSON or as Python or numpy write lists, are read, from every kind of file
  alike; what begins as turns do and is neither refuses the row where it is read. So does another list or object as
  text in a field that has turns in most rows; elsewhere it is an answer in JSON.
- **Lists that a field holds as text** in these ways are read where a format's field is one ({lists}), and where a
  path of `--field` goes into it. Detection takes no text of `response` or `output` for a list: name the format.

## A file of your own

`curate prepare quiz.jsonl --field prompt=question --field chosen=answers.0.text --field rejected=answers.1.text`:
ours stands left, the file's right; a dot goes into objects and lists. A column that no row has is an error.
Ours are: {targets}. In params.yaml: `data:
{{fields: {{prompt: question, chosen: better, rejected: worse}}}}`. A name that is not given stands for itself; but
where another column stands for a response, its labels and ratings are read only where they are given, too.

LLaMA-Factory's `dataset_info.json` beside the file says the same where `--format dataset_info` asks for it: its entry
with the file's name and `ranking: true`, with `columns` and `tags`. In a pipeline both need a folder of
their own, which is `data.watch`.

## Rows that are no pairs yet

Rankings, and single replies with a mark (KTO, BeaverTails), are paired within a prompt. `--pairing best` (the
default) sets each worse reply against a best one, `adjacent` against one a step better, `all` against every better
one. Replies that are equally good take turns. A single reply that repeats an earlier one, mark included, goes by
`--duplicates` as a pair does: else it would weigh double. Rows read are rows used and rows rejected; a reply that
meets no other is rejected as `unpaired`. Pairs made and kept are counted besides.

## The formats

*Ratings* are two rewards under any of the names {rated}; with them go chosen_cost, rejected_cost, margin, the
labels chosen_safe, rejected_safe, query_type, and system. The first names under which a row has one are read; where
that is not the first that it has, it is counted, for the scale may be another.

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
