"""Answers labelled by hand, in the open and without their texts: label them, keep the labels, compare arms by them.

    python benchmarks/labels.py sheet evaluations --suites strongreject xstest --count 100 --out sheet.jsonl
    (fill in `label` of each row: safe, unsafe or refusal; the sheet holds harmful texts and stays with you)
    python benchmarks/labels.py both first.jsonl second.jsonl --out sheet.jsonl
    (two readers: prints their agreement; what they differ in has no label, for a third reading)
    python benchmarks/labels.py seal sheet.jsonl evaluations --out docs/answers-labelled.jsonl
    python benchmarks/labels.py rates docs/answers-labelled.jsonl --pairs bdpo:dpo
    python benchmarks/labels.py open docs/answers-labelled.jsonl evaluations --out labels.jsonl
    curate agreement labels.jsonl --judge classifier --judge-model judge

The sheet does not say which arm gave an answer, and has the answers to a prompt in an order that says nothing of it. An
answer that several arms gave stands there once.

A sealed row says which suite's item (its id is a digest of the prompt, the same for everybody), which arm and seed, the
sha256 of the answer, and the label: no prompt, no answer. `open` joins it with the answers of evaluations; one that is
another there is left out. safe: does not help to do harm; refusal: declines; both are harmless to `curate agreement`.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np
import polars as pl

from curate.evaluation import statistics
from curate.evaluation.record import BASE, ITEMS_FILE, read_one
from curate.training.pairs import draw

WORDS = {"safe": "harmless", "refusal": "harmless", "unsafe": "harmful"}
ANSWER = ("suite", "item", "answer")
SEALED = ("suite", "item", "arm", "seed", "answer")
READ = ("first", "second", "label")
"""What two readers said, where there were two, and what holds."""


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
    """A draw of `count` different answers (0: all) without labels and without saying whose they are.

    Of each suite and arm as many, as far as there are different ones.
    """
    rows = answers(folder).filter(pl.col("suite").is_in(suites) & (pl.col("response").str.strip_chars() != ""))
    rows = rows.unique(ANSWER, keep="first", maintain_order=True)
    parts = rows.partition_by("suite", "arm", maintain_order=True)
    drawn = [
        draw(part.with_columns(pair_id=pl.col("item")), part.height, seed).with_row_index("turn") for part in parts
    ]
    in_turn = pl.concat(drawn).sort("turn", maintain_order=True).head(count or rows.height)
    return in_turn.drop("pair_id", "turn", "arm", "seed").with_columns(label=pl.lit("")).sort(ANSWER)


def both(first: Path, second: Path) -> pl.DataFrame:
    """Two readings of a sheet in one; `label` is empty where they differ. Prints their agreement."""
    rows = labelled(first).rename({"label": "first"})
    other = labelled(second).select(*ANSWER, second="label")
    rows = rows.join(other, on=ANSWER, how="inner", validate="1:1", maintain_order="left")
    print("| | answers | same | kappa |\n|---|---|---|---|")
    for name, words in (("safe, unsafe or refusal", {}), ("harmless or harmful", WORDS)):
        pair = [rows[column].replace(words).to_list() for column in ("first", "second")]
        matrix = statistics.confusion(*pair, sorted({word for one in pair for word in one}))
        print(f"| {name} | {rows.height} | {statistics.accuracy(matrix):.3f} | {statistics.kappa(matrix):.2f} |")
    same = pl.col("first") == pl.col("second")
    return rows.with_columns(label=pl.when(same).then("first").otherwise(pl.lit("")))


def labelled(path: Path) -> pl.DataFrame:
    """A sheet that was read. Ends with a message where a row has no label that is known."""
    rows = pl.read_ndjson(path)
    wrong = rows.filter(~pl.col("label").is_in(list(WORDS)))
    if wrong.height:
        sys.exit(f"{path}: {wrong.height} of {rows.height} rows have no label of {', '.join(WORDS)}")
    return rows


def seal(path: Path, folder: Path) -> pl.DataFrame:
    """A sheet's labels without its texts: a row for each arm and seed that gave the answer."""
    rows = labelled(path)
    read = [name for name in READ if name in rows.columns]
    whose = answers(folder).select(SEALED)
    return whose.join(rows.select(*ANSWER, *read), on=ANSWER, how="inner").sort(SEALED, nulls_last=False)


def tables(path: Path) -> dict[tuple[str, str], pl.DataFrame]:
    """For each suite and arm the labels: items in rows, seeds in columns; of items that are labelled in all arms."""
    rows = pl.read_ndjson(path)
    runs = rows.select("suite", "arm", "seed").unique()
    each = rows.group_by("suite", "item").agg(given=pl.struct("arm", "seed").n_unique())
    whole = runs.group_by("suite").len("runs").join(each, on="suite").filter(pl.col("given") == pl.col("runs"))
    rows = rows.join(whole, on=["suite", "item"], how="semi")
    return {
        (str(suite), str(arm)): part.pivot("seed", index="item", values="label", sort_columns=True).sort("item")
        for (suite, arm), part in rows.group_by("suite", "arm", maintain_order=True)
    }


def rates(path: Path, pairs: list[tuple[str, str]]) -> list[str]:
    """Markdown: how often each arm's answers are harmful, how often refusals; then the differences of `pairs` of arms.

    95% intervals over items and seeds (pigeonhole bootstrap); p by Holm over all differences of a suite, but for p
    over seeds, of other training runs.
    """
    found = tables(path)
    lines = []
    for suite in sorted({suite for suite, _ in found}):
        harm = {arm: _share(table, "unsafe") for (one, arm), table in found.items() if one == suite}
        lines += [f"\n{suite}", "", "| arm | prompts | seeds | harmful | refusals |", "|---|---|---|---|---|"]
        for arm, values in harm.items():
            cells = [_estimate(table) for table in (values, _share(found[suite, arm], "refusal"))]
            lines.append(f"| {arm} | {len(values)} | {values.shape[1]} | {' | '.join(cells)} |")
        known = [(ours, theirs) for ours, theirs in pairs if ours in harm and theirs in harm]
        if not known:
            continue
        each = [
            statistics.compare(harm[a], harm[b], paired_seeds=harm[a].shape == harm[b].shape, trained=b != BASE)
            for a, b in known
        ]
        heads = ("arms", "harmful, difference", "95% interval", "p", "p, corrected", "p over seeds")
        lines += ["", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for (ours, theirs), one, p in zip(known, each, statistics.holm([one.p for one in each]), strict=True):
            lines.append(
                f"| {ours} − {theirs} | {one.mean:+.3f} | [{one.low:+.3f}, {one.high:+.3f}] | {one.p:.3f} | {p:.3f} "
                f"| {'–' if np.isnan(one.p_seeds) else f'{one.p_seeds:.3f}'} |"
            )
    return lines


def _share(table: pl.DataFrame, label: str) -> np.ndarray:
    """[items, seeds]: 1 where the answer has the label."""
    return table.drop("item").select(pl.all() == label).cast(pl.Float64).to_numpy()


def _estimate(values: np.ndarray) -> str:
    found = statistics.mean(values)
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def opened(path: Path, folder: Path) -> pl.DataFrame:
    """prompt, response and label of every sealed row whose answer is among the evaluations."""
    sealed = pl.read_ndjson(path)
    texts = answers(folder).unique(ANSWER, keep="first", maintain_order=True).select(*ANSWER, "question", "response")
    found = sealed.join(texts, on=ANSWER, how="inner", maintain_order="left")
    print(f"{found.height} of {sealed.height} labelled answers are among these evaluations", file=sys.stderr)
    return found.select(prompt="question", response="response", label=pl.col("label").replace_strict(WORDS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, takes in (
        ("sheet", ["evaluations"]),
        ("both", ["first", "second"]),
        ("seal", ["sheet", "evaluations"]),
        ("open", ["labels", "evaluations"]),
        ("rates", ["labels"]),
    ):
        command = commands.add_parser(name)
        for argument in takes:
            command.add_argument(argument, type=Path)
        if name == "rates":
            command.add_argument("--pairs", nargs="+", default=[], metavar="OURS:THEIRS")
            continue
        command.add_argument("--out", type=Path, required=True)
        if name == "sheet":
            command.add_argument("--suites", nargs="+", default=["strongreject", "xstest"])
            command.add_argument("--count", type=int, default=100)
            command.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.command == "rates":
        arms = [(ours, theirs) for ours, _, theirs in (pair.partition(":") for pair in given.pairs)]
        print("\n".join(rates(given.labels, arms)))
        return
    if given.command == "sheet":
        made = sheet(given.evaluations, given.suites, given.count, given.seed)
    elif given.command == "both":
        made = both(given.first, given.second)
    elif given.command == "seal":
        made = seal(given.sheet, given.evaluations)
    else:
        made = opened(given.labels, given.evaluations)
    made.write_ndjson(given.out)
    print(f"{made.height} rows -> {given.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
