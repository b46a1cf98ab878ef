"""The model card: what a trained folder is, from what, and how well it did; README.md for the Hub."""

from __future__ import annotations

from typing import Any

import yaml

from curate.base import markdown
from curate.objectives.registry import OBJECTIVES
from curate.selection import measure


def model_card(record: dict[str, Any], metrics: dict[str, Any]) -> str:
    """Markdown with the Hub's front matter.

    Args:
        record: the model folder's curate.json.
        metrics: the run's metrics.json.
    """
    base, settings, data = record["model"], record["settings"], record["data"]
    objective = settings["objective"]
    measured = "validation" if record["train"].get("validation_fraction") else "held-out"
    front = {
        "library_name": "peft" if record["train"].get("save") == "adapter" else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["curate", objective, "preference-optimization", "safety"],
    }
    if "/" in str(base.get("name", "")) and base.get("commit"):
        front["base_model"] = base["name"]
    counts = f"{data['training']:,} training and {data['heldout']:,} {measured} pairs"
    kl = metrics["heldout"].get("kl")
    return "\n".join(
        [
            "---",
            yaml.safe_dump(front, sort_keys=False).strip(),
            "---",
            "",
            f"# {markdown.plain(base.get('name', 'model'))} after {objective}",
            "",
            f"Trained by curate {record['version']} with the objective `{objective}`: {OBJECTIVES[objective].about}.",
            f"Arm `{record['arm']}`, seed {record['seed']}, {metrics['pairs']:,} pairs, {metrics['steps']:,} steps.",
            "",
            "The pairs are safety-preference data and hold harmful text. The model learned to prefer one response to",
            "another; nothing here shows that it is safe to deploy.",
            "",
            "## At the end\n",
            *_ends(record, metrics, measured),
            "",
            f"Rewards are beta Delta(y), nats, beta {record['train']['beta']:g}, unweighted whatever the objective.",
            *([f"KL to the reference on {measured} prompts: {kl:.4f} nats a response."] if kl is not None else []),
            "",
            "## Made from",
            "",
            f"- model: {markdown.code(base.get('name'))}, digest {markdown.code(base.get('digest'))}",
            *(f"- pairs: {markdown.code(source)}" for source in data["sources"]),
            *_measured(record.get("from")),
            f"- of them {counts}, digest `{data['digest']}`",
            "",
            "## Parameters",
            "",
            markdown.fenced(
                yaml.safe_dump({"arm": settings, "train": record["train"]}, sort_keys=False).strip(), "yaml"
            ),
            "",
        ]
    )


def _ends(record: dict[str, Any], metrics: dict[str, Any], measured: str) -> list[str]:
    """A table of each side's measures, and of how many pairs they are."""
    most = max(record["train"]["eval_pairs"], record["train"]["end_pairs"])
    train, heldout = (min(most, record["data"][side]) for side in ("training", "heldout"))
    return [
        f"| | {train:,} train pairs | {heldout:,} {measured} pairs |",
        "|---|---|---|",
        *(
            f"| {name} | {metrics['train'][name]:.4f} | {metrics['heldout'][name]:.4f} |"
            for name in ("loss", "rewards/margins", "rewards/accuracies", "rewards/chosen", "rewards/rejected")
        ),
    ]


USES = {"subset_gap": "subsets", "balance_gap": "weights"}
"""What a gap is for. An arm's record has the steps that it reads, so the forms of these alone."""


def _measured(provenance: Any) -> list[str]:
    """How the pairs' mutual information was measured, where their record says."""
    null_prompt = measure.null_prompt(provenance)
    if null_prompt is None:
        return []
    forms = measure.forms(provenance)
    read = {what: forms[column] for column, what in USES.items() if column in forms}
    same = len(read) == len(USES) and len({*read.values()}) == 1
    gap = read["weights"] if same else ", ".join(f"{form} for the {what}" for what, form in read.items())
    return [f"- their mutual information: null prompt {null_prompt}" + (f", gap {gap}" if gap else "")]
