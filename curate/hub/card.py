"""The dataset card: what the columns mean, how the numbers were made, what the source's faults were."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import yaml

from curate.base.markdown import code, fenced, plain
from curate.hub import dataset
from curate.hub.licences import non_commercial
from curate.pairs.manifest import DEFAULT, MANIFEST, SPLIT_NAMES, Manifest
from curate.pairs.schema import Split, table
from curate.project.params import PublishParams, is_repository
from curate.selection import measure

CARD = "README.md"
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
TAGS = ("curate", "preference", "dpo", "b-dpo", "trl", "safety", "mutual-information", "not-for-all-audiences")
WARNING = """> [!WARNING]
> These pairs hold harmful, offensive and dangerous text: prompts that ask for it and responses that give it. They are
> for research on safety alignment. Do not show them to people who did not ask for it, and do not train a model to
> follow the rejected side."""

CITATION = """@misc{bdpo2026,
  title = {Improving Safety Alignment via Balanced Direct Preference Optimization},
  author = {Zhao, Shiji and Wang, Mengyang and Xiong, Shukun and Chen, Fangzhou and Zhu, Qihui and Ruan, Shouwei and
            Xiao, Yisong and Duan, Ranjie and Chen, Xun and Wei, XingXing},
  year = {2026},
  eprint = {2603.22829},
  archivePrefix = {arXiv},
  primaryClass = {cs.AI}
}"""


class Drawing(NamedTuple):
    """A figure that lies in the repository."""

    path: str
    alt: str
    reading: str


def front_matter(
    repo: str, manifest: Manifest, configs: dataset.Configs, columns: list[str], params: PublishParams
) -> dict[str, Any]:
    """The card's YAML: what the Hub and `load_dataset` read. Keys that are the owner's to choose come last."""
    rows = sum(part.rows for parts in configs[DEFAULT].values() for part in parts)
    return {
        "license": manifest.license,
        "size_categories": [next((size for most, size in SIZES if rows < most), "n>1M")],
        "configs": [
            {
                "config_name": name,
                "data_files": [
                    {"split": split, "path": paths if len(paths := [part.path for part in parts]) > 1 else paths[0]}
                    for split, parts in sides.items()
                ],
            }
            for name, sides in configs.items()
        ],
        "dataset_info": [
            {
                "config_name": name,
                "features": dataset.features(columns),
                "splits": [
                    {
                        "name": split,
                        "num_bytes": sum(part.size for part in parts),
                        "num_examples": sum(part.rows for part in parts),
                    }
                    for split, parts in sides.items()
                ],
            }
            for name, sides in configs.items()
        ],
        "tags": list(TAGS),
        "pretty_name": params.pretty_name or repo.partition("/")[2],
        "language": list(params.language),
    }


def body(repo: str, title: str, manifest: Manifest, columns: Sequence[str], drawing: Drawing | None) -> str:
    """Our part of the card, Markdown."""
    parts = [
        f"# {plain(title)}",
        WARNING,
        _licence(manifest),
        _what(manifest),
        _configs(manifest),
        _figure(drawing),
        f"## Columns\n\nx is the prompt, y_w the chosen and y_l the rejected response.\n\n{table(columns)}",
        _made(manifest),
        _faults(manifest),
        _use(repo, manifest),
        f"## Citation\n\nThe method:\n\n```bibtex\n{CITATION}\n```",
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _licence(manifest: Manifest) -> str:
    stated = ", ".join(
        f"{code(name)} ({plain(licence or 'licence not known')})" for name, licence in manifest.sources.items()
    )
    text = f"Licence: **{plain(manifest.license)}**. The pairs come from {stated}; their terms go with them."
    if any(licence and non_commercial(licence) for licence in (manifest.license, *manifest.sources.values())):
        text += " **Non-commercial use only.**"
    return text


def _what(manifest: Manifest) -> str:
    return (
        "Preference pairs about safety, each with how well a reference model comprehends both responses (the mutual "
        "information of query and response) and with the weights that Balanced DPO "
        "([arXiv 2603.22829](https://arxiv.org/abs/2603.22829)) gives them. Column names are TRL's where it has them. "
        f"Made by `curate` {plain(manifest.version)}."
    )


def _configs(manifest: Manifest) -> str:
    about = {
        DEFAULT: "all pairs",
        "balanced": "training pairs of small gap of mutual information",
        "imbalanced": "training pairs of large gap",
    }
    rows = []
    for name, sides in manifest.configs.items():
        counts = (f"{_rows(manifest, sides.get(side, [])):,}" for side in SIDES)
        rows.append(f"| {' | '.join([name, about[name], *counts])} |")
    note = (
        f"`test` is the held-out side of a split by prompt (`split` = {Split.HELDOUT.value}): no prompt is on both "
        "sides. The subsets are made of training pairs alone; their `test` is that of `default`, all held-out pairs, "
        "so that what is trained on either is measured on the same."
    )
    return "\n".join(["## Configurations", "", "| name | pairs | train | test |", "|---|---|---|---|", *rows, "", note])


SIDES = tuple(SPLIT_NAMES.values())


def _rows(manifest: Manifest, names: Sequence[str]) -> int:
    return sum(manifest.files[name].rows or 0 for name in names)


def _figure(drawing: Drawing | None) -> str:
    return f"## Mutual information\n\n![{drawing.alt}]({drawing.path})\n\n{drawing.reading}" if drawing else ""


def _made(manifest: Manifest) -> str:
    steps = {step["stage"]: step for step in measure.steps(manifest.provenance) if isinstance(step.get("stage"), str)}
    scored, weighed = steps.get("score", {}), steps.get("weigh", {})
    parts = (scored.get("model"), scored.get("params"), weighed.get("params"))
    model, how, weights = (part if isinstance(part, dict) else {} for part in parts)
    forms = measure.forms(manifest.provenance)
    facts = {
        "reference model": _code(model.get("name")),
        "its commit": _code(model.get("commit")),
        "digest of its weights": _code(model.get("digest")),
        "engine": scored.get("engine"),
        "dtype": how.get("dtype"),
        "null prompt": measure.null_prompt(manifest.provenance),
        "form of the gap, of the subsets": forms.get("subset_gap"),
        "form of the gap, of the weights": forms.get("balance_gap"),
        "scheme of the weights": weights.get("scheme"),
        "alpha": weights.get("alpha"),
        "pair_scale": weights.get("scaling"),
        "direction": weights.get("direction"),
        "version of curate": ", ".join(sorted({str(step["version"]) for step in steps.values() if "version" in step})),
        "digest of the weighted file": f"`{manifest.weights}`",
        "digest of params.yaml": _code(manifest.pipeline.get("params.yaml")),
        "digest of dvc.lock, of the stages that made it": _code(manifest.pipeline.get("dvc.lock")),
    }
    settings = {name: step["params"] for name, step in steps.items() if step.get("params")}
    files = (f"| {code(name)} | {file.bytes:,} | `{file.sha256}` |" for name, file in manifest.files.items())
    return "\n".join(
        [
            "## How the numbers were made",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {_cell(value)} |" for name, value in facts.items() if value is not None),
            "",
            f"Digests are sha256. `{MANIFEST}` has all of this for programs, and every file's digest:",
            "",
            "| file | bytes | sha256 |",
            "|---|---|---|",
            *files,
            *(["", fenced(yaml.safe_dump(settings, sort_keys=False).strip(), "yaml")] if settings else []),
        ]
    )


def _cell(value: object) -> str:
    """A fact: what `_code` made stays, all else is words."""
    return value if isinstance(value, str) and re.fullmatch(r"`[^`]*`", value) else plain(value)


def _code(text: object) -> str | None:
    return code(text) if text else None


def _faults(manifest: Manifest) -> str:
    found = manifest.prepare
    if not found:
        return "## Faults of the source\n\nNot counted: the summary of the preparation was not at hand."
    rows = [
        f"| {plain(rule)} | {about['count']:,} | {plain(about['meaning'])} |" for rule, about in found["rules"].items()
    ]
    gone = found["kept"] - sum(_rows(manifest, names) for names in manifest.configs.get(DEFAULT, {}).values())
    lines = [
        "## Faults of the source",
        "",
        f"{found['read']:,} rows were read, {found['kept']:,} kept, {found['rejected']:,} refused: those are not here.",
        *(
            [f"Of those kept {gone:,} were set aside later, as scoring does with what is too long: nor are they here."]
            * (gone > 0)
        ),
        *(["", "| rule | rows | meaning |", "|---|---|---|", *rows] if rows else []),
        *(["", "Kept, and worth knowing:", ""] if found["marks"] else []),
        *(f"- {count:,} {plain(about)}" for about, count in found["marks"].items()),
    ]
    return "\n".join(lines)


def _use(repo: str, manifest: Manifest) -> str:
    scored = measure.model(manifest.provenance)
    model = str(scored.get("name")) if scored.get("commit") else ""
    # It goes into a command and a program: a Hub id has no sign that either would read.
    model = model if is_repository(model) else "MODEL"
    remark = "" if model != "MODEL" else "\nMODEL is the reference model: the log-probs and weights are its own.\n"
    return f"""## Training on it

With curate, which checks every file's digest first:

```
curate train --data hub:{repo} --model {model} --arm bdpo --out run
```

With TRL:

```python
import torch
from datasets import load_dataset
from trl import DPOConfig
from curate.trl import WeightedDPOTrainer

gpu = torch.cuda.is_available()
args = DPOConfig("trl-run", max_length=None, bf16=gpu, use_cpu=not gpu)
pairs = load_dataset("{repo}", split="train")
WeightedDPOTrainer("{model}", args=args, train_dataset=pairs).train()
```
{remark}"""
