"""Runs gathered by arm: what each arm is, its measures over the seeds, and two arms compared over the same seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from pydantic import ValidationError

from curate.evaluation.statistics import wilson
from curate.pairs.schema import Split
from curate.project.params import ArmParams, Params, WeighParams
from curate.reporting import paired
from curate.reporting.inputs import Material, Run
from curate.reporting.table import Cell, Spread, Table, Within, fixed, t_interval, written
from curate.reporting.words import plain
from curate.selection.weights import params_of


class Outcome(NamedTuple):
    """A measure of a run at its end. `better` is an arrow, or empty where neither direction is good of itself."""

    label: str
    part: str  # of metrics.json
    measure: str
    better: str = ""

    def heading(self, arms: Sequence[Arm]) -> str:
        """Over a column of these arms."""
        return f"{self.label.replace('held-out', measured_on(arms))} {self.better}".rstrip()


OUTCOMES = {
    "heldout_accuracy": Outcome("held-out accuracy", "heldout", "rewards/accuracies", "↑"),
    "train_accuracy": Outcome("train accuracy", "train", "rewards/accuracies"),
    "accuracy_gap": Outcome("accuracy gap", "overfitting", "accuracies", "↓"),
    "heldout_margin": Outcome("held-out margin", "heldout", "rewards/margins", "↑"),
    "train_margin": Outcome("train margin", "train", "rewards/margins"),
    "margin_gap": Outcome("margin gap", "overfitting", "margins", "↓"),
    "heldout_chosen_reward": Outcome("chosen reward", "heldout", "rewards/chosen", "↑"),
    "heldout_rejected_reward": Outcome("rejected reward", "heldout", "rewards/rejected", "↓"),
    "heldout_kl": Outcome("KL", "heldout", "kl", "↓"),
}
"""Measures of a run at its end: name in files, name for people, part and key of metrics.json.

`margin_gap` is the training margin minus the held-out one, `accuracy_gap` the same of accuracies: overfitting. Arms
that turn training pairs round have neither (`Run.turned`).
`heldout_kl` is the KL divergence to the reference on held-out prompts, nats.
"""
OVER_PROMPTS: dict[str, paired.Measure] = {"heldout_margin": "margin", "margin_gap": "gap"}
"""Measures that have an interval over the prompts, by bootstrap (`paired.interval`) [ours]."""
DRAWS = 2_000
FIRST = ("heldout_accuracy", "train_margin", "heldout_margin", "margin_gap", "heldout_kl")
"""What the table of arms shows; the others are in a second one."""
WHAT = {"objective": "objective", "subset": "subset", "alpha": "α"}
"""What an arm is, in the table of runs; α only of B-DPO."""
KNOWN = ("arm", "seed", "objective", "pairs", "steps")


class Arm(NamedTuple):
    """An arm and its runs, by seed."""

    name: str
    params: ArmParams | None  # None: neither the runs' records nor params.yaml say
    weigh: WeighParams | None  # of B-DPO: what its weights were made with, where it is known
    runs: list[Run]
    evaluated: int | None = None  # held-out pairs that its measures are of, where it is known
    followed: int | None = None  # and those that its curve is of
    heldout: int | None = None  # that there were, of which those are drawn
    over_prompts: Mapping[str, tuple[float, float]] = MappingProxyType({})
    """95% intervals of OVER_PROMPTS, of an arm of one run that kept its pairs' rewards."""
    own_beta: bool = False  # whether its rewards β·Δ are in units of another β than that of the arms

    @property
    def objective(self) -> str | None:
        return self.params.objective if self.params else self.runs[0].metrics.get("objective")

    @property
    def subset(self) -> str | None:
        return self.params.subset if self.params else None

    @property
    def alpha(self) -> float | None:
        return self.weigh.alpha if self.weigh else None

    @property
    def validation(self) -> float | None:
        """The share of the training prompts that its measures are of, in place of the held-out pairs."""
        train = self.runs[0].record.get("train")
        return (train.get("validation_fraction") or None) if isinstance(train, dict) else None

    @property
    def turned(self) -> bool:
        """Whether it has no gap, for its objective turned training pairs round."""
        return any(run.turned for run in self.runs)

    @property
    def measured(self) -> tuple[float | None, int | None]:
        """Which pairs its measures are of: arms are compared where this is the same."""
        return self.validation, self.heldout

    @property
    def beta(self) -> float | None:
        """The unit of its rewards β·Δ, where its record says."""
        return self.runs[0].beta

    def values(self, outcome: str) -> dict[int, float]:
        """A measure of OUTCOMES by seed."""
        wanted = OUTCOMES[outcome]
        found = {run.seed: run.final(wanted.part, wanted.measure) for run in self.runs}
        return {seed: value for seed, value in found.items() if value is not None}

    def spread(self, outcome: str) -> Spread | None:
        return spread(list(self.values(outcome).values()))

    def cell(self, outcome: str) -> Cell:
        """The measure over the seeds; of one run with its interval over the prompts, where that is known."""
        found = self.spread(outcome)
        if found is None or outcome not in self.over_prompts:
            return found
        return Within(found.mean, *self.over_prompts[outcome])

    def interval(self, outcome: str) -> tuple[float, float] | None:
        """The 95% interval of the measure: over the seeds (Student's t) from three on; below, of a held-out accuracy
        that of a share of so many pairs (Wilson); of OVER_PROMPTS in one run that over its prompts; else none is known.
        """
        found = self.spread(outcome)
        if found is None or found.n > 2:
            return found and t_interval(found)
        if outcome in self.over_prompts:
            return self.over_prompts[outcome]
        if outcome != "heldout_accuracy" or not self.evaluated:
            return None
        low, high = wilson(found.mean * self.evaluated, self.evaluated)
        return low, high


class Difference(NamedTuple):
    """Mean of `arm` minus `other` over the seeds both have, its standard error, and the number of seeds."""

    arm: str
    other: str
    mean: float
    error: float
    n: int

    @property
    def within_noise(self) -> bool:
        """[ours] Fewer than three seeds, or zero is in Student's 95% interval over the seeds."""
        bounds = t_interval(Spread(self.mean, self.error * math.sqrt(self.n), self.n))
        return bounds is None or bounds[0] <= 0 <= bounds[1]

    def __str__(self) -> str:
        noise = "zero is in" if self.n > 2 else "two seeds give no"
        interval = "Student's 95% interval over the seeds"
        verdict = f"within noise ({noise} {interval})" if self.within_noise else f"zero is outside {interval}"
        mean = fixed(self.mean, "+z.4f")
        return f"{self.arm} minus {self.other}: {mean} ± {self.error:.4f} (n = {self.n} seeds), {verdict}"


def arms_of(material: Material, params: Params | None) -> list[Arm]:
    """The arms in the order of train.arms; those that are not in it follow, in the order of their runs."""
    names = list(dict.fromkeys(run.arm for run in material.runs))
    order = {name: place for place, name in enumerate(params.train.arms)} if params else {}
    names.sort(key=lambda name: order.get(name, len(order)))
    found = [_arm(name, [run for run in material.runs if run.arm == name], material, params) for name in names]
    betas = [arm.beta for arm in found if arm.beta is not None]
    shared = params.train.beta if params else max(betas, key=betas.count, default=None)
    found = [arm._replace(own_beta=arm.beta not in (None, shared)) for arm in found]
    heldout = material.frame.filter(split=Split.HELDOUT.value).height
    over = _over_prompts(found, material.frame)
    found = [arm._replace(over_prompts=over.get(arm.name, {})) for arm in found]
    found = [arm._replace(heldout=_heldout(arm, heldout)) for arm in found]
    drawn = [_drawn(arm, params) for arm in found]
    return [
        arm._replace(followed=min(pairs[0], arm.heldout), evaluated=min(pairs[1], arm.heldout))
        if pairs and arm.heldout is not None
        else arm
        for arm, pairs in zip(found, drawn, strict=True)
    ]


def comparable(arms: Sequence[Arm]) -> list[Arm]:
    """Those that are measured on the same pairs: held-out ones before validation pairs, and then the most."""
    groups: dict[tuple[float | None, int | None], list[Arm]] = {}
    for arm in arms:
        groups.setdefault(arm.measured, []).append(arm)
    return max(groups.values(), key=lambda group: (group[0].validation is None, len(group)), default=[])


def measured_on(arms: Sequence[Arm]) -> str:
    """Which pairs: a run with a `validation_fraction` is measured on validation pairs instead of held-out ones."""
    said = {arm.validation is not None: "validation" if arm.validation else "held-out" for arm in arms}
    return " or ".join(said[validated] for validated in sorted(said)) or "held-out"


def pairs_said(arms: Sequence[Arm]) -> str:
    """How many pairs the measures of arms are of that are measured on the same, in words."""
    counts = sorted({arm.evaluated for arm in arms if arm.evaluated is not None})
    kind = f"{measured_on(arms)} pairs"
    return f"{' or '.join(f'{count:,}' for count in counts)} {kind}" if counts else kind


def _heldout(arm: Arm, heldout: int) -> int | None:
    """How many pairs its runs held out, the fewest of them; `heldout` where none says. None: of validation pairs."""
    recorded = [run.record.get("data") for run in arm.runs]
    said = [data["heldout"] for data in recorded if isinstance(data, dict) and isinstance(data.get("heldout"), int)]
    return min(said) if said else None if arm.validation else heldout


def _over_prompts(arms: Sequence[Arm], frame: pl.DataFrame) -> dict[str, dict[str, tuple[float, float]]]:
    """`Arm.over_prompts` by arm."""
    alone = [arm.runs[0] for arm in arms if len(arm.runs) == 1]
    if not alone or not {"pair_id", "prompt_key"} <= set(frame.columns):
        return {}
    found = {
        name: {
            outcome: paired.interval(rewards, measure, draws=DRAWS)
            for outcome, measure in OVER_PROMPTS.items()
            if rewards.has(measure)
        }
        for name, rewards in paired.of(alone, frame).items()
    }
    return {
        name: {outcome: bounds for outcome, bounds in by_outcome.items() if not math.isnan(bounds.low)}
        for name, by_outcome in found.items()
    }


def _arm(name: str, runs: list[Run], material: Material, params: Params | None) -> Arm:
    known = _recorded(runs[0].record.get("settings")) or (params.arms.get(name) if params else None)
    weigh = None
    if known and known.objective == "bdpo":
        shared = params_of(runs[0].record.get("from")) or params_of(material.provenance)
        shared = shared or (params.weigh if params else None)
        weigh = known.weighing(shared) if shared else None
    return Arm(name, known, weigh, sorted(runs, key=lambda run: run.seed))


def _recorded(settings: Any) -> ArmParams | None:
    """The arm in a run's record, where a setting may be null; None where it is not one of this version."""
    if not isinstance(settings, dict):
        return None
    given = {key: value for key, value in (settings.get("settings") or {}).items() if value is not None}
    try:
        return ArmParams.model_validate(settings | {"settings": given})
    except ValidationError:
        return None


def spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(float(np.mean(values)), sd, len(values))


def compare(arm: Arm, other: Arm, outcome: str = "heldout_accuracy") -> Difference | None:
    """`arm` minus `other`, seed by seed; None below two seeds that both have, and of arms measured on other pairs."""
    if arm.measured != other.measured:
        return None
    ours, theirs = arm.values(outcome), other.values(outcome)
    seeds = [seed for seed in ours if seed in theirs]
    found = spread([ours[seed] - theirs[seed] for seed in seeds])
    if found is None or found.sd is None:
        return None
    return Difference(arm.name, other.name, found.mean, found.sd / math.sqrt(found.n), found.n)


def evaluated(arms: Sequence[Arm]) -> list[int]:
    """How many held-out pairs the measures are of: each count that occurs among the arms, where it is known. None of
    arms that are measured on validation pairs, or on draws from different ones."""
    if len({arm.measured for arm in arms}) > 1 or any(arm.validation for arm in arms):
        return []
    return sorted({arm.evaluated for arm in arms if arm.evaluated is not None})


def _drawn(arm: Arm, params: Params | None) -> tuple[int, int] | None:
    """How many pairs an evaluation and the run's end draw at most, where it is known."""
    train = arm.runs[0].record.get("train")
    each, last = (train.get(name) for name in ("eval_pairs", "end_pairs")) if isinstance(train, dict) else (None, None)
    if isinstance(each, int):
        return each, max(each, last) if isinstance(last, int) else each
    if params is None:
        return None
    known = arm.params.training(params.train) if arm.params else params.train
    return known.eval_pairs, known.measured_pairs


def arm_table(arms: Sequence[Arm]) -> Table:
    """Every arm by the measures of FIRST: mean and standard deviation over its seeds, of one seed `Arm.cell`."""
    columns = ["arm", "seeds", *(OUTCOMES[name].heading(arms) for name in FIRST)]
    rows: list[list[Cell]] = [[arm.name, len(arm.runs), *(arm.cell(name) for name in FIRST)] for arm in arms]
    return Table("Every arm at its end", columns, rows)


def about_table(arms: Sequence[Arm]) -> Table:
    """What every arm is, and the measures that arm_table leaves out."""
    others = [name for name in OUTCOMES if name not in FIRST]
    columns = ["arm", "objective", "subset", "α", "pairs", "steps", *(OUTCOMES[name].heading(arms) for name in others)]
    rows: list[list[Cell]] = [
        [arm.name, arm.objective, arm.subset, arm.alpha, _all(arm, "pairs"), _all(arm, "steps")]
        + [arm.spread(name) for name in others]
        for arm in arms
    ]
    return Table("What every arm is, and its other measures", columns, rows)


def _all(arm: Arm, name: str) -> Cell:
    """A count that its runs share; the lowest and the highest where they differ (early stopping)."""
    found = sorted({run.metrics[name] for run in arm.runs if name in run.metrics})
    if len(found) < 2:
        return found[0] if found else None
    return f"{written(found[0])}–{written(found[-1])}"


def run_frame(arms: Sequence[Arm]) -> pl.DataFrame:
    """A row an arm and seed: what it is, KNOWN, OUTCOMES, and whatever else metrics.json counts (swapped, lambda)."""
    rows = [
        {"arm": arm.name, "seed": run.seed}
        | {name: getattr(arm, name) for name in WHAT}
        | {name: run.metrics.get(name) for name in ("pairs", "steps")}
        | {name: arm.values(name).get(run.seed) for name in OUTCOMES}
        | {
            name: value
            for name, value in run.metrics.items()
            if name not in KNOWN and isinstance(value, int | float | str)
        }
        for arm in arms
        for run in arm.runs
    ]
    return pl.from_dicts(rows, infer_schema_length=None) if rows else pl.DataFrame()


def run_table(arms: Sequence[Arm]) -> Table:
    """A row an arm and seed: the measures of FIRST, its steps, and whatever else its objective counts."""
    frame = run_frame(arms)
    if frame.is_empty():
        return Table("Every run", [], [])
    counted = [name for name in frame.columns if name not in (*KNOWN, *WHAT, *OUTCOMES)]
    frame = frame.select("arm", "seed", "steps", *FIRST, *counted)
    headings = [OUTCOMES[name].heading(arms) if name in OUTCOMES else plain(name) for name in frame.columns]
    return Table("Every run", headings, [list(row) for row in frame.rows()])


def arm_metrics(arm: Arm) -> dict[str, Any]:
    """An arm for `dvc metrics`: mean, sd and n of each measure over its seeds."""
    about = {"objective": arm.objective, "subset": arm.subset, "alpha": arm.alpha, "seeds": len(arm.runs)}
    counts = {name: _all(arm, name) for name in ("pairs", "steps")}
    spreads = {outcome: arm.spread(outcome) for outcome in OUTCOMES}
    return about | counts | {name: found._asdict() if found else None for name, found in spreads.items()}
