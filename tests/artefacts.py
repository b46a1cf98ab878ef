"""A seeded set of artefacts as the stages write them, without running a stage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl

from curate import __version__
from curate.base import files
from curate.evaluation.evaluate import summary, values_of
from curate.evaluation.items import RESULTS, Judgement, Refusal, Response
from curate.evaluation.judges.truth import SampleTruth
from curate.evaluation.record import ITEMS_FILE, METRICS_FILE, VALUES_FILE
from curate.evaluation.suites import suite_of
from curate.evaluation.suites.base import make_item, results, user
from curate.pairs.identity import pair_id
from curate.pairs.schema import PAIRS, REJECTS, SCORES, SPLITS, WEIGHTS, columns
from curate.project.params import PIPELINE_KEYS, ArmParams, EvaluateParams, TrainParams
from curate.project.params.evaluate import WATCHES

HOSTILE = """</script><script>alert("x")</script><img src=x onerror='alert(1)'> & {{ 7*7 }} \x1b[31mred"""


def frame(pairs: int = 400, seed: int = 0) -> pl.DataFrame:
    """Pairs with scores, splits and weights; the pair of the largest gap carries HOSTILE."""
    draw = np.random.default_rng(seed)
    unsafe = np.arange(pairs) % 2 == 1
    prompts = [f"question {i // 2 * 2 + i % 2} about topic {i % 7}" for i in range(pairs)]
    heldout = draw.random(pairs) < 0.2
    tokens = {name: draw.integers(8, 60, pairs) for name in ("prompt", "chosen", "rejected")}
    common = draw.normal(0.6, 0.3, pairs)
    pmi = {
        "chosen": common + draw.normal(np.where(unsafe, -0.15, 0.1), 0.25, pairs),
        "rejected": common + draw.normal(0, 0.25, pairs),
    }
    ref = {side: -2.0 * tokens[side] for side in pmi}
    gap = pmi["chosen"] - pmi["rejected"]
    half = np.tanh(1.5 * np.clip(gap, -4 / 1.5, 4 / 1.5) / 2)
    turn = {side: [[{"role": "assistant", "content": f"{side} answer {i}"}] for i in range(pairs)] for side in pmi}
    turn["chosen"][int(np.argmax(gap))][0]["content"] = HOSTILE
    asked = [[{"role": "user", "content": text}] for text in prompts]
    rank = np.argsort(np.argsort(np.where(heldout, np.nan, np.abs(gap))))
    third = int((~heldout).sum()) // 3
    shuffled = draw.permutation(np.flatnonzero(~heldout))[:third]
    values = {
        "pair_id": [pair_id(*texts) for texts in zip(asked, turn["chosen"], turn["rejected"], strict=True)],
        "prompt": asked,
        **turn,
        "query_type": np.where(unsafe, "unsafe", "safe"),
        "chosen_safe": [True] * pairs,
        "rejected_safe": ~unsafe,
        "prompt_key": [f"key{i}" for i in range(pairs)],
        "split": np.where(heldout, "heldout", "train"),
        "source": ["sample"] * pairs,
        "source_format": ["pku"] * pairs,
        "source_row": range(pairs),
        **{f"{name}_tokens": count for name, count in tokens.items()},
        **{f"ref_{side}_logps": ref[side] for side in pmi},
        **{f"null_{side}_logps": ref[side] - pmi[side] * tokens[side] for side in pmi},
        **{f"{side}_pmi": pmi[side] for side in pmi},
        "pmi_gap": gap,
        "balanced": (rank < third) & ~heldout,
        "imbalanced": (rank >= (~heldout).sum() - third) & ~heldout,
        "random": np.isin(np.arange(pairs), shuffled),
        "chosen_weight": 1 - half,
        "rejected_weight": 1 + half,
        "pair_scale": np.sqrt(2 / ((1 - half) ** 2 + (1 + half) ** 2)),
    }
    schema = columns("pairs", "scores", "splits", "weights")
    return pl.DataFrame({name: pl.Series(name, values[name], strict=False) for name in schema}).cast(schema)


def curve(seed: int, fit: float) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    rows = []
    for side, reach in (("train", fit), ("heldout", fit / 2)):
        for step in range(0, 101, 10):
            margin = reach * (1 - np.exp(-step / 40)) + (0.02 * draw.normal() if step else 0)
            rows.append(
                {
                    "step": step,
                    "epoch": step / 50,
                    "side": side,
                    "loss": float(np.log1p(np.exp(-margin))),
                    "rewards/chosen": -0.2 * margin,
                    "rewards/rejected": -1.2 * margin,
                    "rewards/margins": margin,
                    "rewards/accuracies": (0.5 + 0.4 * margin / (1 + margin)) if step else 0.0,
                    "logps/chosen": -40 - 2 * margin,
                    "logps/rejected": -41 - 12 * margin,
                    "kl": 3 * margin if side == "heldout" else None,
                }
            )
    return pl.DataFrame(rows)


def write_run(
    folder: Path, name: str, arm: ArmParams | None = None, seed: int = 0, fit: float = 2.0, noise: int | None = None
) -> None:
    """What `curate train` leaves, without the model's weights: curve.csv, metrics.json, model/curate.json.

    `fit` is how far the training margin rises, `noise` the seed of the curve's noise (else the run's seed).
    """
    folder.mkdir(parents=True)
    arm = arm or ArmParams()
    made = curve(seed if noise is None else noise, fit)
    made.write_csv(folder / "curve.csv")
    last = {
        side: made.filter(pl.col("side") == side).sort("step").drop("side", "step", "epoch").row(-1, named=True)
        for side in ("train", "heldout")
    }
    start = made.filter((pl.col("step") == 0) & (pl.col("side") == "heldout")).drop("side", "step", "epoch")
    metrics = {"arm": name, "seed": seed, "objective": arm.objective, "pairs": 320, "steps": 100}
    metrics |= {"swapped": 3, "dropped": 1} if arm.objective == "safedpo" else {}
    metrics |= last | {"start": start.row(0, named=True)}
    metrics["overfitting"] = {
        key: None if metrics.get("swapped") else last["train"][f"rewards/{key}"] - last["heldout"][f"rewards/{key}"]
        for key in ("margins", "accuracies")
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    record = {
        "arm": name,
        "seed": seed,
        "from": {"stage": "weigh", "params": {"alpha": 1.5}},
        "train": TrainParams().model_dump(exclude=set(PIPELINE_KEYS)),
        "settings": arm.record() | {"settings": {"beta": 0.1} | arm.settings},
    }
    files.write_json(record, folder / "model" / "curate.json")


def write_evaluation(
    folder: Path,
    name: str,
    seed: int | None = None,
    safe: float = 0.5,
    prompts: int = 40,
    unjudged: int = 0,
    judge: bool = True,
    params: EvaluateParams | None = None,
) -> None:
    """What `curate evaluate` leaves: the suites `sample` and, with a judge, `prefill`, else `strongreject`.

    About the share `safe` of the unsafe prompts is refused, and of the safe ones 0.3 less; of every suite the first
    `unjudged` answers are without a verdict. The same prompts are hard for every arm.
    """
    draw = np.random.default_rng([0 if seed is None else seed + 1, *name.encode()])
    hard = np.random.default_rng(0).random(prompts) + draw.normal(0, 0.05, prompts)
    parts = [("sample", [("unsafe", hard < safe), ("safe", hard < safe - 0.3)])]
    parts += [
        ("prefill", [(f"prefill {n}", hard < safe - n / 50) for n in (0, 5, 10)])
        if judge
        else ("strongreject", [("", hard < safe)])
    ]
    found, values, suites = [], [], {}
    for suite_name, groups in parts:
        suite = suite_of(suite_name)
        items, responses, verdicts = [], [], []
        for group, refuses in groups:
            for number, refusal in enumerate(refuses):
                missing = len(items) < unjudged
                items.append(
                    make_item(user(f"request {number} of the {group} part"), group=group, cluster=f"c{number}")
                )
                text = "" if missing else "I cannot help with that." if refusal else f"SECRET answer {number}"
                responses.append(Response(text, "stop", 5))
                verdict = Judgement(Refusal.FULL, 0.0) if refusal else Judgement(Refusal.NONE, 0.5 + number % 3 / 4)
                verdicts.append(
                    Judgement(why="empty response")
                    if missing
                    else verdict
                    if judge or suite_name == "sample"
                    else Judgement()
                )
        of_suite = results(items, responses, verdicts).with_columns(suite=pl.lit(suite_name)).select(*RESULTS)
        tasks = {"harm"} if suite_name == "prefill" else set()
        found.append(of_suite)
        values.append(values_of(suite, of_suite, tasks))
        suites[suite_name] = {
            **summary(suite, of_suite, values[-1], len(items)),
            "judge": None if suite_name == "strongreject" else SampleTruth().record(),
            "options": suite.options().model_dump(mode="json"),
        }
    wanted = params or EvaluateParams(
        suites=[f"{suite_name}=rows.csv" if suite_name != "sample" else suite_name for suite_name, _ in parts]
    )
    model = {"name": "tiny", "commit": None, "digest": "d" * 64, "context": 512}
    metrics = {
        "name": name,
        "seed": seed,
        "version": __version__,
        "model": model,
        "made": {},
        "params": wanted.model_dump(exclude={*WATCHES, "judge_url", "attacker_url"}),
        "with": {"chat": model | {"dtype": "float32", "engine": "transformers 0.0"}},
        "sources": {suite_name: {"name": None, "sha256": None, "repeated": 0} for suite_name, _ in parts},
        "suites": suites,
    }
    about = {"stage": "evaluate", "name": name, "seed": seed, "version": __version__}
    files.write_parquet(pl.concat(found), folder / ITEMS_FILE, about)
    files.write_parquet(pl.concat(values), folder / VALUES_FILE, about)
    files.write_json(metrics, folder / METRICS_FILE)


def rejects() -> pl.DataFrame:
    rows = [
        {"source": "raw.jsonl", "source_row": row, "rule": rule, "reason": "said why", "row": '{"secret": "text"}'}
        for row, rule in ((3, "empty_response"), (9, "duplicate"), (7, "duplicate"))
    ]
    return pl.DataFrame(rows).cast(REJECTS)


def write_all(root: Path, pairs: int = 400) -> Path:
    """data/ and runs/ under `root`, as the pipeline leaves them."""
    made = frame(pairs)
    data = root / "data"
    model = {"name": "tiny", "commit": None, "digest": "d" * 64, "context": 512}
    scored = {
        "stage": "score",
        "model": model,
        "engine": "vllm 0.0",
        "params": {"dtype": "float32", "null_prompt": "empty_user"},
    }
    weighed = {"stage": "weigh", "params": {"scheme": "tanh", "alpha": 1.5, "scaling": "norm"}, "from": scored}
    kept = list(PAIRS)
    for name, new, record in (
        ("pairs", [], {"stage": "prepare"}),
        ("scores", SCORES, scored),
        ("splits", SPLITS, {"stage": "split", "from": scored}),
        ("weights", WEIGHTS, weighed),
    ):
        kept += list(new)
        files.write_parquet(made.select(kept), data / f"{name}.parquet", record)
    files.write_parquet(rejects(), data / "rejects.parquet", {"stage": "prepare"})
    documents = {
        "prepare": {
            "read": pairs + 3,
            "kept": pairs,
            "rejected": 3,
            "rules": {
                "duplicate": {"count": 2, "meaning": "<b>a repeat</b>", "first_rows": [7, 9]},
                "empty_response": {"count": 1, "meaning": "nothing said", "first_rows": [3]},
            },
            "marks": {"crlf": 4},
            "format": "pku",
            "source": "sample",
        },
        "reference/reference": {**model, "path": "/somewhere"},
        "score": {
            **scored,
            "pairs": pairs,
            "dtype": "float32",
            "null_prompt": "empty_user",
            "template": {"end_of_turn": "<|im_end|>", "system_turn": "system Be of help.", "thought": None},
        },
        "split": {
            "subsets": {name: {"pairs": 100, "mean_abs_gap": 0.1, "unsafe": 0.5} for name in SPLITS},
            "smd": {
                "balanced-imbalanced": {"sign": 0.01, "length_difference": -0.03, "query_type": 0.0},
                "balanced-random": {"sign": 0.02, "length_difference": None, "query_type": 0.1},
            },
        },
        "weigh": {**weighed["params"], "pairs": pairs, "chosen_weight": {"mean": 1.0, "q50": 1.0}},
    }
    for name, document in documents.items():
        files.write_json(document, data / f"{name}.json")
    write_run(root / "runs/dpo/seed-0", "dpo", fit=2.4, noise=1)
    write_run(root / "runs/bdpo/seed-0", "bdpo", ArmParams(objective="bdpo"), fit=1.7, noise=2)
    return root
