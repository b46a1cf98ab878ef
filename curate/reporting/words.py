"""The words of the page: what each term means, and keys of files as people say them."""

from __future__ import annotations

TERMS = {
    "MI": (
        "mutual information of a prompt and a response, nats/token: how much likelier, per token, the prompt makes the "
        "response to the reference model; taken as how well the model comprehends it. Neither high nor low is good."
    ),
    "gap": "MI of the chosen response minus MI of the rejected one; |gap|, its size, is how imbalanced a pair is.",
    "nats": "the unit of natural logarithms of probabilities: 1 nat is a factor of 2.72, 0.1 nats a factor of 1.11.",
    "arm": "one way of training: an objective with its settings on some of the pairs.",
    "reward": "β times the change of a response's log-probability since the reference model, nats.",
    "margin": (
        "reward of the chosen response minus that of the rejected one, nats: how far the trained model prefers the "
        "chosen one more than it did. On held-out pairs higher is better."
    ),
    "margin gap": "margin on training pairs minus margin on held-out pairs: overfitting. Lower is better.",
    "accuracy": "share of pairs whose margin is positive. On held-out pairs higher is better.",
    "accuracy gap": "accuracy on training pairs minus accuracy on held-out pairs: overfitting. Lower is better.",
    "KL": (
        "Kullback-Leibler divergence of the trained model from the reference model, nats a response: how far it moved "
        "in what it would say itself. At the same accuracy lower is better."
    ),
    "seed": "a number that sets what is drawn at random in training, such as the order of the pairs.",
    "chosen, rejected": "the preferred response of a pair and the other one (y_w and y_l in formulas).",
    "safe, unsafe query": "unsafe: a prompt whose answer would itself be harmful; unknown: the data does not say.",
    "held out": "pairs that are not trained on; no prompt of theirs is in a training pair.",
    "reference model": "the model that scored the pairs and that training starts from; base where it is evaluated.",
    "D_balanced": "training pairs of the smallest |gap|, within groups alike in query type and in split.match.",
    "D_imbalanced": "as many training pairs of the largest |gap|, within the same groups.",
    "D_random": "as many training pairs drawn at random, within the same groups.",
    "standardised mean difference": (
        "difference of two means over their pooled standard deviation; below 0.1 in size counts as matched."
    ),
    "chosen weight, rejected weight": "what multiplies the chosen and the rejected term of a pair's loss; 1 in DPO.",
    "pair scale": "what multiplies the whole loss of a pair, so that the weights leave its strength alone; 1 in DPO.",
    "α": "strength of the balance weights; at 0 B-DPO is DPO.",
    "sample": "the pairs that curate makes itself, and the evaluation suite of prompts like theirs.",
    "suite": "a set of prompts with a way of judging the answers.",
    "digest (of weights)": "a fingerprint of a model's weight files (SHA-256): the same digest, the same model.",
    "95% interval": "a range that covers the true value in 95 of 100 repetitions, as far as its assumptions hold.",
    "p, corrected": (
        "how likely a difference this large would be if there were none, for other prompts and the runs as they are; "
        "corrected for all comparisons made (Holm). Below 0.05 a difference of these runs counts as shown."
    ),
    "p over seeds": (
        "the same for other training runs (a t-test of the seeds), of this comparison alone. Only where it is below "
        "0.05, too, and there are three seeds, does a difference count as one of the methods."
    ),
}
"""Term -> a line; in the order in which the page needs them."""
FIRST_TERMS = ("MI", "gap", "nats")
"""Explained on the first screen; with TRAINED_TERMS where arms were trained."""
TRAINED_TERMS = ("arm", "margin gap")

KEYS = {
    "crlf": "Windows line ends",
    "smd": "standardised mean difference",
    "sign": "sign of the gap",
    "length_difference": "token length difference",
    "length": "tokens of both responses",
    "query_type": "query type",
    "first_rows": "for example rows",
    "count": "rows",
    "lambda": "λ",
    "pmi_gap": "gap",
}
"""Keys of files whose plain words are not their letters."""


def plain(key: str) -> str:
    """A key of a file as people say it."""
    return KEYS.get(key, key.replace("_", " "))


def subset(name: str) -> str:
    """balanced -> D_balanced; balanced-random -> D_balanced and D_random."""
    return " and ".join(f"D_{part}" for part in name.split("-"))
