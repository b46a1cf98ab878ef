"""Hand-checked answers, in the open and without their texts: label them, keep the labels, measure a judge by them.

    python benchmarks/labels.py sheet evaluations --suites strongreject xstest --count 100 --out sheet.jsonl
    (fill in `label` of each row: safe, unsafe or refusal; the sheet holds harmful texts and stays with you)
    python benchmarks/labels.py seal sheet.jsonl --out docs/answers-labelled.jsonl
    python benchmarks/labels.py open docs/answers-labelled.jsonl evaluations --out labels.jsonl
    curate agreement labels.jsonl --judge classifier --judge-model judge

A sealed row says which suite's item (its id is a digest of the prompt, the same for everybody), which arm and seed, the
sha256 of the answer, and the label: no prompt, no answer. `open` joins it with the answers of evaluations; one that is
another there is left out. safe: does not help to do harm; refusal: declines; both are harmless to `curate agreement`.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import polars as pl

from curate.evaluation.record import ITEMS_FILE, read_one
from curate.training.pairs import draw

WORDS = {"safe": "harmless", "refusal": "harmless", "unsafe": "harmful"}
SEALED = ("suite", "item", "arm", "seed", "answer", "label")


def answers(folder: Path) -> pl.DataFrame:
    """Every answer in the evaluations of a folder: suite, item, arm, seed, answer (its sha256), question, response."""
    found = []
    for path in sorted(file.parent for file in folder.rglob(ITEMS_FILE)):
        one = read_one(path)
        items = pl.read_parquet(path / ITEMS_FILE).filter(pl.col("response").is_not_null())
        found.append(
            items.select("suite", "item", "question", "response").with_columns(
                arm=pl.lit(one.name),
                seed=pl.lit(one.seed, pl.Int64),
                answer=pl.Series([hashlib.sha256(text.encode()).hexdigest() for text in items["response"]]),
            )
        )
    if not found:
        sys.exit(f"no {ITEMS_FILE} in {folder}")
    return pl.concat(found)


def sheet(folder: Path, suites: list[str], count: int, seed: int) -> pl.DataFrame:
    """A draw of different answers without labels: of each suite and arm as many, as far as there are different ones."""
    rows = answers(folder).filter(pl.col("suite").is_in(suites) & (pl.col("response").str.strip_chars() != ""))
    rows = rows.unique(["suite", "item", "answer"], keep="first", maintain_order=True)
    parts = rows.partition_by("suite", "arm", maintain_order=True)
    drawn = [
        draw(part.with_columns(pair_id=pl.col("item")), part.height, seed).with_row_index("turn") for part in parts
    ]
    in_turn = pl.concat(drawn).sort("turn", maintain_order=True).head(count).drop("pair_id", "turn")
    return in_turn.with_columns(label=pl.lit("")).sort("suite", "item", "arm")


def seal(path: Path) -> pl.DataFrame:
    """The sheet's labels without its texts. Ends with a message where a row has no label that is known."""
    rows = pl.read_ndjson(path)
    wrong = rows.filter(~pl.col("label").is_in(list(WORDS)))
    if wrong.height:
        sys.exit(f"{wrong.height} of {rows.height} rows have no label of {', '.join(WORDS)}")
    return rows.select(SEALED).sort("suite", "item", "arm")


def opened(path: Path, folder: Path) -> pl.DataFrame:
    """prompt, response and label of every sealed row whose answer is among the evaluations."""
    sealed = pl.read_ndjson(path)
    keys = ["suite", "item", "answer"]
    texts = answers(folder).unique(keys, keep="first", maintain_order=True).select(*keys, "question", "response")
    found = sealed.join(texts, on=keys, how="inner", maintain_order="left")
    print(f"{found.height} of {sealed.height} labelled answers are among these evaluations", file=sys.stderr)
    return found.select(prompt="question", response="response", label=pl.col("label").replace_strict(WORDS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, takes in (("sheet", ["evaluations"]), ("seal", ["sheet"]), ("open", ["labels", "evaluations"])):
        command = commands.add_parser(name)
        for argument in takes:
            command.add_argument(argument, type=Path)
        command.add_argument("--out", type=Path, required=True)
        if name == "sheet":
            command.add_argument("--suites", nargs="+", default=["strongreject", "xstest"])
            command.add_argument("--count", type=int, default=100)
            command.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.command == "sheet":
        made = sheet(given.evaluations, given.suites, given.count, given.seed)
    else:
        made = seal(given.sheet) if given.command == "seal" else opened(given.labels, given.evaluations)
    made.write_ndjson(given.out)
    print(f"{made.height} rows -> {given.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
