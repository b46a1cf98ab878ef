"""Writing a params file: a comment above every key."""

from __future__ import annotations

from typing import Any

import yaml

from curate.base.credentials import redacted_value
from curate.project.params.arms import ArmParams
from curate.project.params.section import Section
from curate.project.params.whole import Params


def without_credentials(params: Params) -> Params:
    """`params` as a report may show them: passwords in addresses and keys are struck out."""
    return Params.model_validate(redacted_value(params.model_dump()))


def to_yaml(params: Params) -> str:
    """The params file, a comment above every key (each field's description)."""
    lines = [
        "# The choices behind a result, each a key; what has none is a constant of the code.",
        "# A wrong key or value is refused at once.",
        "# `dvc exp run -S weigh.alpha=2.0` runs what depends on a key, and nothing else: it weighs the pairs,",
        "# trains the arms that read the weights, evaluates these, and writes the report.",
    ]
    for name, field in Params.model_fields.items():
        value = getattr(params, name)
        doc = field.description or (type(value).__doc__ or "")
        lines += ["", *(f"# {line}" for line in doc.strip().splitlines()), f"{name}:"]
        if isinstance(value, Section):
            lines += _section(value)
        else:
            for key, arm_field in ArmParams.model_fields.items():
                lines.insert(-1, f"#   {key}: {arm_field.description}")
            for arm, arm_params in value.items():
                lines += [f"  # {_describe_arm(arm_params)}", f"  {arm}: {_flow(arm_params.record())}"]
    return "\n".join(lines) + "\n"


def _section(section: Section) -> list[str]:
    lines = []
    for name, field in type(section).model_fields.items():
        lines += [f"  # {field.description}", f"  {name}: {_flow(getattr(section, name))}"]
    return lines


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


def _describe_arm(arm: ArmParams) -> str:
    names = {"bdpo": "B-DPO", "cdpo": "C-DPO", "safedpo": "SafeDPO", "simpo": "SimPO"}
    what = names.get(arm.objective, arm.objective.upper())
    if arm.objective == "bdpo" and not (arm.balance_weight and arm.scaling_factor):
        parts = [
            name
            for flag, name in ((arm.balance_weight, "balance weights"), (arm.scaling_factor, "scaling factor"))
            if flag
        ]
        what = "DPO" + (" with " + " and ".join(parts) if parts else "")
    return f"{what} on {'all training pairs' if arm.subset == 'all' else f'D_{arm.subset}'}"
