"""The paper's training experiments, each drawn where its arms were trained. Whose each statement is stands with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from curate.project.params import IDLE_KEYS
from curate.reporting import curves, dots
from curate.reporting.arms import Arm, comparable, compare
from curate.reporting.canvas import PALETTE, SUBSET_COLOURS
from curate.reporting.claims import Formula
from curate.reporting.figures import Drawn
from curate.reporting.table import written

SUBSET_ARMS = {"dpo-balanced": "D_balanced", "dpo-imbalanced": "D_imbalanced", "dpo-random": "D_random"}
ARM_COLOURS = {
    "dpo-balanced": SUBSET_COLOURS["balanced"],
    "dpo-imbalanced": SUBSET_COLOURS["imbalanced"],
    "dpo-random": PALETTE[2],
}
ABLATION_ARMS = {"dpo": "DPO", "bw": "DPO + BW", "sf": "DPO + SF", "bdpo": "B-DPO"}
RELABELS = ("safedpo", "cdpo")
REFUSES = ("door", "w-door")
CHANCE = "With one seed an arm, a difference may be chance."
NO_SAFETY = (
    "Held-out accuracy and margins say how preferences of this data are fitted. No answer is generated or judged: "
    "they are no safety score and no general score."
)


def experiments(arms: Sequence[Arm], pairs: str) -> list[Drawn]:
    """The figures whose arms are there, of those that are measured on the same pairs.

    Args:
        pairs: how many held-out pairs the numbers are of, in words.
    """
    arms = comparable(arms)
    named = {arm.name: arm for arm in arms}
    drawn: list[Drawn] = []
    if {"dpo-balanced", "dpo-imbalanced"} <= set(named):
        on_subsets = [named[name] for name in SUBSET_ARMS if name in named]
        drawn += [subset_margins(on_subsets), subset_ends(on_subsets, pairs)]
    if {"dpo", "bdpo"} <= set(named) and {"bw", "sf"} & set(named):
        drawn.append(ablation([named[name] for name in ABLATION_ARMS if name in named], pairs))
    drawn += [draw(found, pairs) for select, draw in _SELECTED if (found := select(arms))]
    return drawn


def subset_margins(arms: Sequence[Arm]) -> Drawn:
    ends = "; ".join(
        f"{SUBSET_ARMS[arm.name]} {written(arm.spread('train_margin'))} on its training pairs, "
        f"{written(arm.spread('heldout_margin'))} held out"
        for arm in arms
    )
    return Drawn(
        "subset-margins",
        "Reward margin on balanced and imbalanced pairs",
        f"Reward margin of DPO over the steps, by the subset it is trained on. At the end, in nats: {ends}.",
        f"DPO, trained on each subset apart. Solid: the pairs it trains on; dashed: held-out pairs, the same for "
        f"all arms. {curves.lines_said(arms)} At the end, in nats: {ends}.",
        curves.margin_figure(arms, [ARM_COLOURS[arm.name] for arm in arms]),
        (
            Formula("Figure 3", "The reward margin of D_imbalanced is higher than that of D_balanced.", "paper"),
            Formula(
                "here",
                "The subsets are ours. The solid lines are of different pairs: their heights say how well "
                "each subset is fitted, not how well the arms generalise. The dashed ones are of the same pairs.",
                "ours",
            ),
        ),
    )


def subset_ends(arms: Sequence[Arm], pairs: str) -> Drawn:
    labels = {SUBSET_ARMS[arm.name]: arm for arm in arms}
    colours = {SUBSET_ARMS[name]: colour for name, colour in ARM_COLOURS.items()}
    return _dots(
        "subset-ends",
        "DPO on balanced and imbalanced pairs, at the end",
        labels,
        "D_imbalanced",
        pairs,
        Formula("Figure 4", "Models trained on D_balanced have the better safety and general performance.", "paper"),
        colours=colours,
    )


def ablation(arms: Sequence[Arm], pairs: str) -> Drawn:
    return _dots(
        "ablation",
        "Balance weights and scaling factor",
        {ABLATION_ARMS[arm.name]: arm for arm in arms},
        "DPO",
        pairs,
        Formula(
            "Table 2",
            "Safe rate of Qwen-2-7B-Instruct on StrongREJECT and XSTest, %: DPO 84.03 and 81.50; with balance "
            "weights (BW) 85.30 and 82.50; with the scaling factor (SF) 86.58 and 83.00; B-DPO 92.01 and 84.50.",
            "digest",
        ),
    )


def objectives(arms: Sequence[Arm], pairs: str) -> Drawn:
    present = {arm.objective for arm in arms}
    notes = []
    if present & set(RELABELS):
        notes.append(
            "SafeDPO and C-DPO train on relabelled pairs, and their training margins are of those; the held-out "
            "pairs are as they came. So they have no margin gap where pairs were turned round."
        )
    if present & set(REFUSES):
        notes.append("DOOR and W-DOOR train refusals after harmful beginnings, not preferences.")
    return _dots(
        "objectives",
        "Objectives on all training pairs",
        {_objective_label(arm, arms): arm for arm in arms},
        next((_objective_label(arm, arms) for arm in arms if arm.objective == "dpo"), None),
        pairs,
        Formula(
            "Table 1",
            "B-DPO beside DPO, CPO, SimPO and SafeDPO. Mean of all benchmarks, Qwen-2-7B-Instruct, %: DPO 70.63, "
            "SafeDPO 69.45, B-DPO 73.29.",
            "digest",
        ),
        notes,
    )


def alphas(arms: Sequence[Arm], pairs: str) -> Drawn:
    """B-DPO by its strength, with DPO as strength 0 where it is among `arms`."""
    points = sorted(((0.0 if arm.alpha is None else arm.alpha, arm) for arm in arms), key=lambda point: point[0])
    as_zero = [arm for arm in arms if arm.alpha is None]
    ends = "; ".join(f"α {x:g}: {_end(arm)}" for x, arm in points)
    zero = "No B-DPO arm has α = 0: the hollow dots are the arm dpo, whose weights are all 1, as at α = 0. "
    best = max(points, key=lambda point: mean.mean if (mean := point[1].spread("heldout_accuracy")) else -1.0)
    return Drawn(
        "alpha",
        "B-DPO by its strength α",
        f"Held-out accuracy (left) and margin gap (right) of B-DPO over alpha. {ends}.",
        f"Each dot is a seed, the line joins the means ({_count(arms)}; {pairs}). {dots.intervals_said(arms)} "
        f"{zero if as_zero else ''}"
        f"The arms differ in α alone. Mean held-out accuracy is highest at α = {best[0]:g} ({_end(best[1])}); "
        "that one of several is the highest is partly chance. "
        + ("See the spread of the seeds." if any(len(arm.runs) > 1 for arm in arms) else CHANCE),
        dots.along(points, "α (strength of the balance weights)", as_zero),
        (
            Formula("Figure 5", "α = 1.5 gives the highest safety on StrongREJECT.", "paper"),
            Formula("here", f"{NO_SAFETY} The weights' equations, and so the scale of α, are ours.", "ours"),
        ),
        _compared({f"α {x:g}": arm for x, arm in points}, f"α {points[0][0]:g}"),
    )


def variants(arms: Sequence[Arm], pairs: str) -> Drawn:
    """B-DPO by the form of the gap that its weights are made of, and by its direction."""
    labels = {_variant(arm): arm for arm in arms}
    return _dots(
        "variants",
        "B-DPO by the form of the gap, and by its direction",
        labels,
        next((label for label, arm in labels.items() if arm.objective == "dpo"), None),
        pairs,
        Formula("B-DPO", "The response with the higher MI gets the lower weight.", "digest"),
        ["The forms of the gap are ours; a turned direction gives that response the higher weight."],
    )


def _variant(arm: Arm) -> str:
    if arm.objective == "dpo" or arm.params is None or arm.weigh is None:
        return "DPO"
    form = arm.weigh.normalisation
    said = "as split" if form == "as_split" else form.replace("_", " ")
    return said + (", turned" if arm.weigh.direction == "higher_mi_higher_weight" else "")


def _full(arm: Arm) -> bool:
    known = arm.params
    return bool(known and known.subset == "all" and known.balance_weight and known.scaling_factor)


def _of_objectives(arms: Sequence[Arm]) -> list[Arm]:
    """The arms on all training pairs that are an objective as a whole: two objectives or more, else none."""
    found = [arm for arm in arms if _full(arm) and arm.params and not arm.params.weigh]
    return found if len({arm.objective for arm in found}) > 1 else []


def _of_alphas(arms: Sequence[Arm]) -> list[Arm]:
    """The B-DPO arms that differ from `weigh` in alpha alone, and dpo where none has alpha 0; else none.

    Two strengths at least must be there. Of arms that are alike in all, the first; dpo is there where it was trained
    as they were.
    """
    fit = [arm for arm in arms if _full(arm) and arm.alpha is not None and arm.params]
    fit = [arm for arm in fit if arm.params and not set(arm.params.weigh) - {"alpha"}]
    by_alpha = max(({arm.alpha: arm for arm in reversed(group)} for group in _alike(fit, "alpha")), key=len, default={})
    if len(by_alpha) < 2:
        return []
    found = [arm for arm in arms if any(arm is kept for kept in by_alpha.values())]
    weigh = found[0].weigh
    is_dpo = weigh is not None and (weigh.scaling != "constant" or weigh.constant == 1)
    if 0 not in by_alpha and is_dpo:
        found += _dpo_like(found[0], arms)
    return found


def _trained(arm: Arm) -> str:
    """How the arm was trained and on which pairs, beside its objective and weights."""
    known, record = arm.params, arm.runs[0].record
    train = {name: value for name, value in (record.get("train") or {}).items() if name not in IDLE_KEYS}
    digest = (record.get("data") or {}).get("digest")
    return json.dumps([known.train, known.settings, train, digest], sort_keys=True) if known else ""


def _alike(arms: Sequence[Arm], *apart: str) -> list[list[Arm]]:
    """The arms by how they were trained, and weighed but for `apart`."""

    def way(arm: Arm) -> str:
        return _trained(arm) + (arm.weigh.model_dump_json(exclude=set(apart)) if arm.weigh else "")

    return [list(group) for _, group in groupby(sorted(arms, key=way), key=way)]


def _dpo_like(arm: Arm, arms: Sequence[Arm]) -> list[Arm]:
    """The arm dpo on all pairs, where it was trained as `arm` was."""
    dpo = (one for one in arms if one.name == "dpo" and one.objective == "dpo" and _full(one))
    return [one for one in dpo if _trained(one) == _trained(arm)]


def _of_variants(arms: Sequence[Arm]) -> list[Arm]:
    """The B-DPO arms that differ from `weigh` in normalisation or direction alone, beside the one that does not, and
    dpo, all trained in one way: the most forms of which there are; none where no arm differs."""
    fit = [arm for arm in arms if _full(arm) and arm.objective == "bdpo" and arm.params]
    fit = [arm for arm in fit if arm.params and set(arm.params.weigh) <= {"normalisation", "direction"}]
    groups = [
        group
        for group in _alike(fit, "normalisation", "direction")
        if any(arm.params and arm.params.weigh for arm in group)
    ]
    by_label = max(({_variant(arm): arm for arm in reversed(group)} for group in groups), key=len, default={})
    found = [arm for arm in fit if any(arm is kept for kept in by_label.values())]
    plain = _dpo_like(found[0], arms) if found else []
    return [*plain, *found] if len(plain) + len(found) > 1 else []


_SELECTED: list[tuple[Callable[[Sequence[Arm]], list[Arm]], Callable[[Sequence[Arm], str], Drawn]]] = [
    (_of_alphas, alphas),
    (_of_objectives, objectives),
    (_of_variants, variants),
]


def _objective_label(arm: Arm, arms: Sequence[Arm]) -> str:
    """The objective, or the arm's name where several arms have the objective."""
    alone = sum(other.objective == arm.objective for other in arms) == 1
    return str(arm.objective) if alone else arm.name


def _dots(
    name: str,
    title: str,
    labels: dict[str, Arm],
    baseline: str | None,
    pairs: str,
    claim: Formula,
    notes: Sequence[str] = (),
    colours: dict[str, str] | None = None,
) -> Drawn:
    several = any(len(arm.runs) > 1 for arm in labels.values())
    reading = [f"Each dot is a seed{', the bar their mean' if several else ''} ({_count(labels.values())}; {pairs})."]
    if baseline:
        reading.append(f"Dotted: the {'mean' if several else 'value'} of {baseline}.")
    reading += [dots.intervals_said(list(labels.values())), _extremes(labels), *notes]
    if own := curves.beta_said(list(labels.values())):
        reading.append(own.strip())
    if not several:
        reading.append(CHANCE)
    ends = "; ".join(f"{label}: {_end(arm)}" for label, arm in labels.items())
    return Drawn(
        name,
        title,
        f"Held-out accuracy (left) and margin gap (right) by arm. {ends}.",
        " ".join(reading),
        dots.by_arm(labels, baseline, colours),
        (claim, Formula("here", NO_SAFETY, "ours")),
        _compared(labels, baseline),
    )


def _count(arms: Iterable[Arm]) -> str:
    counts = sorted({len(arm.runs) for arm in arms})
    n = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"n = {n} {'seed' if counts[-1] == 1 else 'seeds'} an arm"


def _end(arm: Arm) -> str:
    return f"accuracy {written(arm.spread('heldout_accuracy'))}, gap {written(arm.spread('margin_gap'))}"


def _extremes(labels: dict[str, Arm]) -> str:
    """Which arms have the highest and the lowest of each measure drawn."""
    said = []
    for outcome, what in (("heldout_accuracy", "Held-out accuracy"), ("margin_gap", "the margin gap")):
        alike = {label: arm for label, arm in labels.items() if not (arm.own_beta and outcome == "margin_gap")}
        found = {label: mean for label, arm in alike.items() if (mean := arm.spread(outcome))}
        if found:
            low, high = (pick(found, key=lambda label: found[label].mean) for pick in (min, max))
            lowest, highest = written(found[low]), written(found[high])
            runs = f"runs from {lowest} ({low}) to {highest} ({high})"
            said.append(f"{what} {runs if lowest != highest else f'is {lowest} in each'}")
    return "; ".join(said) + "." if said else ""


def _compared(labels: dict[str, Arm], baseline: str | None) -> tuple[str, ...]:
    """Every arm beside `baseline`, or beside the first; a line for each that shares two seeds with it."""
    other = baseline if baseline in labels else next(iter(labels))
    found = (
        compare(arm._replace(name=label), labels[other]._replace(name=other))
        for label, arm in labels.items()
        if label != other
    )
    return tuple(str(difference) for difference in found if difference)
