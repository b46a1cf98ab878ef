"""The formulas that made the numbers, and whose each is: the paper's or ours (the tags of docs/method.md)."""

from __future__ import annotations

from curate.reporting.claims import Formula
from curate.reporting.inputs import Material
from curate.selection import measure

NULL_PROMPTS = {
    "empty_user": "null is the same chat template with an empty user turn",
    "bos": "null is the beginning-of-sequence token alone",
    "contrastive": "log π_ref(y | null) is the log of the mean of π_ref(y | x_k) over other training prompts of the "
    "query type",
    measure.OWN_IN_THE_MEAN: "log π_ref(y | null) is the log of the mean of π_ref(y | x_k) over other prompts of the "
    "query type and the own one: MI per token is then mostly log(K + 1)/|y|",
    measure.HELDOUT_IN_THE_MEAN: "log π_ref(y | null) is the log of the mean of π_ref(y | x_k) over other prompts of "
    "the query type, held-out ones among them",
}
NORMALISATIONS = {
    "per_token": "d = MI(x, y_w) − MI(x, y_l)",
    "total": "d = MI(x, y_w)·|y_w| − MI(x, y_l)·|y_l|",
    "sqrt": "d = MI(x, y_w)·√|y_w| − MI(x, y_l)·√|y_l|",
    "residual": "d = MI(x, y_w) − MI(x, y_l) − b₁·log(|y_w| / |y_l|) − b₂·(|y_w| − |y_l|), b of least squares over the "
    "training pairs",
}
"""All but the first are then scaled to the first's median |d| over the training pairs."""
WEIGHTS = {
    "tanh": "w_w = 1 − tanh(α·d_c / 2), w_l = 1 + tanh(α·d_c / 2), d_c = d clipped to ±4/α",
    "power": "w_w = 2·M_l^α / (M_w^α + M_l^α), w_l = 2 − w_w, M = max(MI, 0.01)",
    "geometric": "w_w = exp(−α·d / 2), w_l = exp(+α·d / 2), each clipped to 0.2 … 5",
    "none": "w_w = w_l = 1",
}
SCALINGS = {
    "norm": "s = sqrt(2 / (w_w² + w_l²)): the norm of the gradient's coefficients stays DPO's",
    "none": "s = 1",
    "constant": "s is a constant",
}


def formulas(material: Material) -> list[Formula]:
    """The choices named in the file's own record are shown; where it is silent, all of them."""
    made = [
        Formula(
            "The observation",
            "A model comprehends the two responses of a safety pair unequally, for safe and unsafe queries alike; "
            "data of imbalanced pairs are fitted with a higher reward margin, data of balanced pairs align better.",
            "paper",
        ),
        Formula(
            "The idea",
            "The response with the higher mutual information gets the lower weight; a scaling factor keeps the "
            "overall gradient magnitude stable. The exact equations were not to be found.",
            "digest",
        ),
        Formula(
            "Mutual information", "MI(x, y) = ( log π_ref(y | x) − log π_ref(y | null) ) / |y|, nats/token", "ours"
        ),
    ]
    chosen = {name: str(material.fact(name)) for name in ("null_prompt", "scheme", "scaling", "alpha", "direction")}
    null = measure.null_prompt(material.provenance) or chosen["null_prompt"]
    made += [Formula("Null prompt", text, "ours") for text in _picked(NULL_PROMPTS, null)]
    forms = measure.forms(material.provenance)
    for column, what in (("subset_gap", "Gap, of the subsets"), ("balance_gap", "Gap, of the weights")):
        form = forms.get(column, measure.PER_TOKEN)
        scaled = "" if form == measure.PER_TOKEN else ", on the scale of the gap per token"
        made.append(Formula(what, NORMALISATIONS.get(form, form) + scaled, "ours"))
    alpha = f"; α = {chosen['alpha']}" if material.fact("alpha") is not None else ""
    turned = "; w_w and w_l exchanged" if chosen["direction"] == "higher_mi_higher_weight" else ""
    made += [
        Formula("Balance weights", f"{text}{alpha}{turned}", "ours") for text in _picked(WEIGHTS, chosen["scheme"])
    ]
    made += [Formula("Scaling factor", text, "ours") for text in _picked(SCALINGS, chosen["scaling"])]
    return [
        *made,
        Formula("Loss", "L = − s · log σ( β · ( w_w·Δ(y_w) − w_l·Δ(y_l) ) ); DPO where w_w = w_l = s = 1", "ours"),
        Formula(
            "KL to the reference",
            "mean over held-out prompts x of Σ_t KL( π_θ(· | x, y_<t) ‖ π_ref(· | x, y_<t) ), y drawn from π_θ: the "
            "Rao-Blackwellised estimator (arXiv 2504.10637)",
            "ours",
        ),
        Formula(
            "Splits",
            "D_balanced and D_imbalanced: lowest and highest |d| of the training pairs within each query type; "
            "D_random: a draw of the same size; confounders matched.",
            "ours",
        ),
    ]


def _picked(choices: dict[str, str], name: str) -> list[str]:
    return [choices[name]] if name in choices else list(choices.values())
