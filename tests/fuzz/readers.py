"""Every reader, with sound inputs of ours for it to be given damaged. One call reads one input."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
from artefacts import frame, write_run
from tiny import save_model

from curate.base import files
from fuzz.mutate import as_json, damaged, spoiled, spoiled_frame

Reader = Callable[[random.Random, Path], None]
TURN = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
ROWS: dict[str, list[dict[str, Any]]] = {
    "trl": [{"prompt": f"q {n}", "chosen": f"a {n}", "rejected": f"b {n}"} for n in range(6)],
    "chat": [
        {"prompt": TURN[:1], "chosen": TURN[1:], "rejected": [{"role": "assistant", "content": f"b {n}"}], "n": n}
        for n in range(4)
    ],
    "hh": [
        {"chosen": f"\n\nHuman: q {n}\n\nAssistant: a", "rejected": f"\n\nHuman: q {n}\n\nAssistant: b"}
        for n in range(4)
    ],
    "pku": [
        {"prompt": f"q {n}", "response_0": "a", "response_1": "b", "is_response_0_safe": True}
        | {"is_response_1_safe": n % 2 == 0, "better_response_id": 0, "safer_response_id": 0}
        for n in range(6)
    ],
    "sharegpt": [
        {"conversations": [{"from": "human", "value": f"q {n}"}], "chosen": {"from": "gpt", "value": "a"}}
        | {"rejected": {"from": "gpt", "value": "b"}}
        for n in range(4)
    ],
    "openai": [
        {"input": {"messages": TURN[:1]}, "preferred_output": TURN[1:]}
        | {"non_preferred_output": [{"role": "assistant", "content": f"b {n}"}]}
        for n in range(4)
    ],
    "pair": [{"prompt": f"q {n}", "response": ["a", "b"]} for n in range(4)],
}
SUITES = {
    "xstest": [{"prompt": f"q {n}", "type": "homonyms", "label": "safe"} for n in range(4)],
    "strongreject": [{"forbidden_prompt": f"q {n}", "category": "c"} for n in range(4)],
    "hhh": [{"prompt": "q", "chosen": "a", "rejected": "b"}],
    "heldout": ROWS["trl"],
    "prefill": [{"prompt": "q", "rejected": "b"}],
}
LABELS = [{"prompt": "q", "response": "a", "label": label} for label in ("harmful", "harmless", "yes", 1)]


def rows_file(rows: list[dict[str, Any]], draw: random.Random, folder: Path) -> Path:
    """A file of rows, in some format, damaged in its values, its bytes, or both."""
    given: Any = spoiled(rows, draw) if draw.random() < 0.7 else rows
    kind = draw.choice(("json", "jsonl", "jsonl", "csv", "parquet"))
    try:
        data = _as_file(given, kind)
    except Exception:  # what no writer takes
        kind, data = "json", as_json(given)
    if draw.random() < 0.2:
        kind, data = f"{kind}.gz", gzip.compress(data, 1)
    if given is rows or draw.random() < 0.3:
        data = damaged(data, draw)
    path = folder / f"rows.{kind}"
    path.write_bytes(data)
    return path


def _as_file(rows: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "parquet":
        pl.DataFrame(rows).write_parquet(buffer)
        return buffer.getvalue()
    if kind == "jsonl":
        return b"\n".join(map(as_json, rows))
    if kind == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()
    return as_json(rows)


def source(draw: random.Random, folder: Path) -> None:
    from curate.pairs.prepare import prepare
    from curate.project.params import CleaningParams, DataParams

    path = rows_file(ROWS[draw.choice(list(ROWS))], draw, folder)
    made = prepare(DataParams(source=str(path)), CleaningParams())
    assert made.summary["read"] == made.pairs.height + made.rejects.height


def suite(draw: random.Random, folder: Path) -> None:
    from curate.evaluation.sources import load, parse
    from curate.project.params import EvaluateParams

    name = draw.choice(list(SUITES))
    path = rows_file(SUITES[name], draw, folder)
    (named,) = parse(EvaluateParams(suites=[f"{name}={path}"]))
    assert load(named, draw.choice((0, 2)), 0).items


def labels(draw: random.Random, folder: Path) -> None:
    from curate.evaluation.judges.agreement import read_labels

    read_labels(rows_file(LABELS, draw, folder), draw.choice(("harm", "compliance")))


@cache
def _params() -> tuple[bytes, Any]:
    import yaml

    from curate.project.params import Params, to_yaml

    text = to_yaml(Params())
    return text.encode(), yaml.safe_load(text)


def params(draw: random.Random, folder: Path) -> None:
    import yaml

    from curate.project.params import load

    text, value = _params()
    if draw.random() < 0.6:
        text = yaml.safe_dump(spoiled(value, draw), allow_unicode=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    else:
        text = damaged(text, draw)
    (folder / "params.yaml").write_bytes(text)
    load(folder / "params.yaml")


@cache
def _frame() -> pl.DataFrame:
    return frame(120)


def artefact(draw: random.Random, folder: Path) -> None:
    from curate.pairs.artefact import read_artefact
    from curate.project.params import SplitParams, WeighParams
    from curate.reporting.summary import summarise
    from curate.selection import subsets, weights

    path = folder / "weights.parquet"
    whole = draw.random() < 0.5
    files.write_parquet(_frame() if whole else spoiled_frame(_frame(), draw), path, {"stage": "weigh"})
    if whole:
        path.write_bytes(damaged(path.read_bytes(), draw))
    files.read_provenance(path)
    with suppress(files.InputError):
        summarise(path)
    read = read_artefact(path, "pairs", "scores", "splits", "weights")
    assert read["pair_id"].is_unique().all()
    assert subsets.split(read, SplitParams()).height == read.height
    assert weights.weigh(read, WeighParams())["chosen_weight"].is_finite().all()


@cache
def _run(root: Path) -> Path:
    write_run(root / "run", "dpo")
    return root / "run"


def run(draw: random.Random, folder: Path, root: Path) -> None:
    from curate.reporting.inputs import read_run

    shutil.copytree(_run(root), folder / "run")
    _damage_one(folder / "run", draw)
    read_run(folder / "run")


def evaluation(draw: random.Random, folder: Path, root: Path) -> None:
    from artefacts import write_evaluation

    from curate.evaluation.record import read

    if not (root / "evaluation").exists():
        write_evaluation(root / "evaluation", "dpo")
    shutil.copytree(root / "evaluation", folder / "evaluation")
    _damage_one(folder / "evaluation", draw)
    read([folder / "evaluation"])


def manifest(draw: random.Random, folder: Path) -> None:
    from curate.hub.publish import _prepared
    from curate.pairs.manifest import read

    digest = "0" * 64
    sound = {"version": "1", "license": "mit", "sources": {"a": None}, "weights": digest, "pipeline": {}, "prepare": {}}
    sound |= {"configs": {"default": {"train": ["data/a.parquet"]}}, "provenance": {"stage": "weigh"}}
    sound |= {"files": {"data/a.parquet": {"bytes": 1, "sha256": digest, "rows": 1}}}
    prepared = {
        "read": 2,
        "kept": 1,
        "rejected": 1,
        "rules": {"empty": {"count": 1, "meaning": "m"}},
        "marks": {"crlf": 1},
    }
    value, reader = draw.choice(((sound, lambda path: read(path, "hub:me/data")), (prepared, _prepared)))
    path = folder / "a.json"
    path.write_bytes(as_json(spoiled(value, draw)) if draw.random() < 0.6 else damaged(as_json(value), draw))
    reader(path)


def model(draw: random.Random, folder: Path, root: Path) -> None:
    from curate.models.load import load_model
    from curate.models.rendering import load_tokenizer
    from curate.models.resolve import resolve

    if not (root / "model").exists():
        save_model(root / "model")
    shutil.copytree(root / "model", folder / "model")
    _damage_one(folder / "model", draw)
    found = resolve(folder / "model")
    load_tokenizer(found)
    load_model(found, "float32")


def shard(draw: random.Random, folder: Path) -> None:
    """A shard of scores or of answers, damaged, for the most part under its own digest."""
    import hashlib

    import numpy as np

    from curate.evaluation.generation.cache import TextCache
    from curate.evaluation.generation.local import _read
    from curate.scoring.store import Shards

    scores = draw.random() < 0.5
    keys = [bytes([n]) * 16 for n in range(20)]
    if scores:
        Shards(folder).add(keys, -np.arange(20.0))
    else:
        answers = spoiled([["stop", [n, 2 * n]] for n in range(20)], draw)[:20]
        TextCache(folder, _read).add(keys[: len(answers)], list(map(json.dumps, answers)))
    (path,) = folder.glob("*.arrow")
    data = damaged(path.read_bytes(), draw) if scores or draw.random() < 0.5 else path.read_bytes()
    if draw.random() < 0.7:  # under its own digest
        path = folder / f"{hashlib.sha256(data).hexdigest()[:32]}.arrow"
    path.write_bytes(data)
    if scores:
        found = Shards(folder).lookup(keys)
        assert (np.isnan(found) | (found <= 1e-3)).all()
    else:
        assert all(answer is None or answer.finish == "stop" for answer in TextCache(folder, _read).lookup(keys))


def _damage_one(folder: Path, draw: random.Random) -> None:
    """One file of the folder: its bytes, or the values of its JSON; or it is gone, a folder, a loop or a pipe."""
    path = draw.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    data = path.read_bytes()
    match draw.randrange(11):
        case 10:
            path.unlink()
            os.mkfifo(path)
        case 0:
            path.unlink()
        case 1:
            path.unlink()
            path.mkdir()
        case 2:
            path.unlink()
            path.symlink_to(path)
        case 3 | 4 | 5 | 6 if path.suffix == ".json":
            path.write_bytes(as_json(spoiled(json.loads(data), draw)))
        case _:
            path.write_bytes(damaged(data, draw))


def readers(root: Path) -> dict[str, tuple[Reader, int]]:
    """Reader by name, with its share of the inputs. `root` is a folder for what is made once."""
    return {
        "source": (source, 30),
        "artefact": (artefact, 15),
        "params": (params, 12),
        "suite": (suite, 10),
        "labels": (labels, 8),
        "shard": (shard, 8),
        "manifest": (manifest, 5),
        "run": (lambda draw, folder: run(draw, folder, root), 4),
        "evaluation": (lambda draw, folder: evaluation(draw, folder, root), 4),
        "model": (lambda draw, folder: model(draw, folder, root), 4),
    }
