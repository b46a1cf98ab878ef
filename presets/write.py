"""Write every preset: the defaults of curate.project.params, and what the preset has otherwise.

python presets/write.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curate.project.params import Params, to_yaml

FOLDER = Path(__file__).resolve().parent
SHARED = "../shared/data"
CORPORA = [f"{SHARED}/corpus/{name}" for name in ("sgd_train_dialogues.txt.gz", "alpaca_en_demo.json", "wiki_demo.txt")]
PKU = f"{SHARED}/pref/pku_saferlhf_test_safeunsafe_dev.json"
HH = f"{SHARED}/pref/hh_harmless_base_test_dev.jsonl.gz"

ADAMW = {"optimizer": "adamw", "steps": 600, "learning_rate": 0.004}
"""The default before there was Muon: what docs/results.md says of these presets was found with it."""

PAIRS = "data/pairs.parquet"
SMOLLM2 = "../models/SmolLM2-135M-Instruct"

ALPHAS = {"bdpo-alpha-0": 0.0, "bdpo-alpha-05": 0.5, "bdpo-alpha-10": 1.0, "bdpo-alpha-20": 2.0, "bdpo-alpha-25": 2.5}
LAMBDAS = {"cdpo-0": 0.0, "cdpo-02": 0.2, "cdpo-04": 0.4, "cdpo-1": 1.0, "cdpo-2": 2.0}

SUBSETS = ["dpo-balanced", "dpo-imbalanced", "dpo-random"]  # figures 3 and 4 of B-DPO
ABLATION = ["dpo", "bw", "sf", "bdpo"]  # its table 2
BASELINES = ["cpo", "simpo", "safedpo", "cdpo", "door", "w-door", "ipo", "wpo", "kldpo"]  # table 1 and beside it
EXPERIMENTS = [*ABLATION, *SUBSETS, *ALPHAS, *BASELINES]


def arms(**own: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The default arms, figure 5's values of alpha (the arm bdpo has its 1.5), and the grid of C-DPO's lambda."""
    found = {name: arm.record() for name, arm in Params().arms.items()}
    found |= {name: {"objective": "bdpo", "weigh": {"alpha": alpha}} for name, alpha in ALPHAS.items()}
    found |= {name: {"objective": "cdpo", "settings": {"lambda": value}} for name, value in LAMBDAS.items()}
    return {name: arm | own.get(arm["objective"], {}) for name, arm in found.items()}


def paper(model: str, name: str, template: str = "") -> tuple[str, dict[str, Any]]:
    """B-DPO's setting as far as it is known (docs/experiments.md): data and models are the paper's; learning rate,
    epochs and beta are not to be found, so they are what preference tuning of 7B models commonly takes."""
    about = f"""B-DPO's experiments on {model}, PKU-SafeRLHF: every arm, 3 seeds.
Machine: GPUs of 80 GB, one to score, eight to train (configs/fsdp.yaml); downloads from the Hub.
10,000 safe and 10,000 unsafe queries.{template}
The paper does not say its learning rate, epochs or beta: these are ours."""
    # DOOR's and W-DOOR's are their paper's.
    door = {"train": {"learning_rate": 1e-5, "epochs": 10}}
    return about, {
        "model": {"name": model},
        "data": {
            "source": "hub:PKU-Alignment/PKU-SafeRLHF",
            "format": "pku",
            "hub_config": "default",
            "heldout_fraction": 0.05,
        },
        "cleaning": {"max_pairs_per_query_type": 10_500},
        "score": {
            "engine": "auto",
            "dtype": "bfloat16",
            "too_long": "reject",
            "unrenderable": "reject",
            "max_length": 2048,
        },
        "train": {
            "arms": EXPERIMENTS,
            "seeds": [0, 1, 2],
            "learning_rate": 5e-7,
            "epochs": 3,
            "batch_pairs": 16,
            "accumulation": 4,
            "dtype": "bfloat16",
            "gradient_checkpointing": True,
            "eval_pairs": 512,
            "kl_prompts": 0,  # FSDP has none
            "check_tolerance": 0.02,
            "accelerate": "configs/fsdp.yaml",
        },
        "evaluate": {
            # StrongREJECT, XSTest, GSM8K and HHH are the paper's; which judge it had is not said.
            "suites": [f"heldout={PAIRS}", "strongreject", "xstest", f"prefill={PAIRS}", "gsm8k", "hhh"],
            "watch": PAIRS,
            "dtype": "bfloat16",
            "max_tokens": 512,
            "judge": "rubric",
            "judge_model": "Qwen/Qwen2.5-14B-Instruct",
            "judge_dtype": "bfloat16",
        },
        "arms": arms(**{"door": door, "w-door": door}),
        "report": {"title": f"B-DPO on PKU-SafeRLHF, {name}"},
    }


def small(
    source: str, what: str, rows: str, title: str, reference: dict[str, Any], **sections: Any
) -> tuple[str, dict[str, Any]]:
    """A real file, with a reference model trained on its text and plain corpora."""
    sections["train"] = {"learning_rate": 3e-4} | sections["train"]
    about = f"""{what}
Machine: two cores, {sections.pop("takes")}; the data files under {SHARED}, no downloads.
{rows},
with a small reference model trained on their text and plain corpora. Copy it over params.yaml. Where your files lie
elsewhere, change data.source and data.watch, reference.texts and reference.watch."""
    return about, {
        "reference": {"texts": [source, *CORPORA], "watch": SHARED, "text_tokens": 100_000} | ADAMW | reference,
        "data": {"source": source, "watch": source, **({"format": "pku_ranked"} if source == PKU else {})},
        # No judge: a model of this size says little that one could read. Refusals are found by matching strings.
        "evaluate": {"suites": [f"heldout={PAIRS}"], "watch": PAIRS, "limit": 100},
        "report": {"title": title},
        **sections,
    }


PKU_ROWS = (
    "PKU-SafeRLHF rows with exactly one safe reply, a JSON array of {prompt, response: [safer, other]} (CC BY-NC 4.0)"
)
PKU_REFERENCE = {
    "vocab_size": 8192,
    "hidden_size": 192,
    "layers": 4,
    "heads": 3,
    "context": 1024,
    "learning_rate": 0.003,
}
HH_ROWS = "HH-RLHF harmless-base transcripts, gzipped JSONL of {chosen, rejected} (MIT)"
HH_REFERENCE = {"vocab_size": 4096, "context": 1024, "steps": 200, "batch_tokens": 4096, "learning_rate": 0.003}


RATES = (3e-6, 1e-5, 3e-5)
"""Learning rates that the study tries for each of its objectives, one seed each, on validation pairs."""
SEARCHED = {"dpo": 3e-5, "bdpo": 3e-5, "simpo": 3e-5, "safedpo": 3e-5, "door": 1e-5}
"""The study's objectives, and the rate that was found for each: every arm runs with its objective's."""


def study() -> dict[str, dict[str, Any]]:
    """The arms of the study, the most telling first. Alpha 0 is `dpo`, to the last digit."""

    def bdpo(**weigh: Any) -> dict[str, Any]:
        return {"objective": "bdpo", "weigh": weigh}

    defaults = {name: arm.record() for name, arm in Params().arms.items()}
    names = ["dpo", "bdpo", *SUBSETS, "bw", "sf"]
    found = {name: defaults[name] for name in names}
    found |= {"bdpo-alpha-30": bdpo(alpha=3.0), "bdpo-alpha-05": bdpo(alpha=0.5)}
    found |= {f"bdpo-{form}": bdpo(normalisation=form) for form in ("sqrt", "total", "residual")}
    found |= {"bdpo-turned": bdpo(direction="higher_mi_higher_weight")}
    found |= {name: defaults[name] for name in ("simpo", "safedpo", "door")}
    return {name: _at(arm, SEARCHED[arm["objective"]]) for name, arm in found.items()}


def search() -> dict[str, dict[str, Any]]:
    """Every objective of the study with every rate, measured on a quarter of the training prompts."""
    return {
        f"{objective}-{rate:.0e}".replace("e-0", "e-"): {
            "objective": objective,
            "train": {"learning_rate": rate, "validation_fraction": 0.25},
        }
        for objective in SEARCHED
        for rate in RATES
    }


def _at(arm: dict[str, Any], rate: float) -> dict[str, Any]:
    return arm if rate == STUDY_TRAIN["learning_rate"] else arm | {"train": {"learning_rate": rate}}


STUDY_TRAIN = {
    "learning_rate": 1e-5,
    "epochs": 1,
    "batch_pairs": 16,
    "dtype": "bfloat16",  # products twice as fast, on a processor that has them
    "check_tolerance": 0.02,
    "evaluations": 2,
    "end_pairs": 10_000,  # all
    "checkpoints": 1,
    "check_pairs": 16,
}
STUDY = {
    "model": {"name": SMOLLM2, "watch": SMOLLM2},
    "data": {"source": PKU, "watch": PKU, "format": "pku_ranked", "heldout_fraction": 0.4},
    # Of a prompt's pairs, up to 20, three: more prompts say more than more pairs of the same.
    "cleaning": {"max_pairs_per_prompt": 3},
    "score": {"engine": "transformers", "too_long": "reject"},
    # Without the third, pairs of small gaps have 173 tokens and those of large ones 94: long pairs would be compared
    # with short ones. With it 140 and 136.
    "split": {"match": ["sign", "length", "total_length"], "length_bins": 5},
    "evaluate": {"suites": [f"heldout={PAIRS}"], "watch": PAIRS, "max_tokens": 128},
    "arms": study() | search(),
}
STUDY_MODEL = f"""The model: SmolLM2-135M-Instruct in the folder {SMOLLM2}. With the Hub instead:
model.name HuggingFaceTB/SmolLM2-135M-Instruct, and model.watch curate/sample."""


def presets() -> dict[str, tuple[str, dict[str, Any]]]:
    """Name -> (what it is, what differs from the defaults)."""
    seeds = [0, 1, 2]
    return {
        "paper-qwen2-7b": paper("Qwen/Qwen2-7B-Instruct", "Qwen2-7B-Instruct"),
        "paper-mistral-7b": paper("mistralai/Mistral-7B-Instruct-v0.3", "Mistral-7B-Instruct-v0.3"),
        "paper-vicuna-7b": paper(
            "lmsys/vicuna-7b-v1.5",
            "Vicuna-7B-v1.5",
            """
Vicuna's tokenizer has no chat template: download the model, put Vicuna's as chat_template.jinja beside the tokenizer,
and set model.name and model.watch to that folder.""",
        ),
        "sample-experiments": (
            f"""The arms of the papers' experiments on the embedded sample, 3 seeds.
Machine: two cores, {len(EXPERIMENTS) * len(seeds)} short training runs, no downloads.
See docs/experiments.md. Copy it over params.yaml.""",
            {
                "reference": ADAMW,
                "train": {"arms": EXPERIMENTS, "seeds": seeds},
                "arms": arms(),
                "report": {"title": "The papers' experiments on the embedded sample"},
            },
        ),
        "pku-experiments": small(
            PKU,
            "The arms of the papers' experiments on 1,000 pairs of a PKU-SafeRLHF file, 3 seeds.",
            PKU_ROWS,
            "The papers' experiments on PKU-SafeRLHF test pairs, small model",
            PKU_REFERENCE,
            takes="an hour",
            cleaning={"max_pairs_per_query_type": 1000},
            train={
                # No ratings in this file: C-DPO has nothing to relabel by.
                "arms": [arm for arm in EXPERIMENTS if arm != "cdpo"],
                "seeds": seeds,
                "epochs": 1,
                "evaluations": 3,
                "end_pairs": 128,
                "check_pairs": 16,
            },
            arms=arms(),
        ),
        "smollm2-pku": (
            f"""B-DPO's claims on a real instruct model and real pairs: docs/study.md says what is asked and how.
Machine: two cores, hours (52 runs); the data file under {SHARED}.
{STUDY_MODEL}
First the learning rates, once: the preset smollm2-pku-search. Runs that are done are kept.""",
            STUDY
            | {
                "train": STUDY_TRAIN
                | {"arms": list(study()), "seeds": seeds, "more_arms": ["dpo", "bdpo"], "more_seeds": [3, 4]},
                "report": {"title": "B-DPO on SmolLM2-135M-Instruct and PKU-SafeRLHF test pairs"},
            },
        ),
        "smollm2-pku-search": (
            f"""The learning rates of the preset smollm2-pku: {len(RATES)} for each objective, one seed.
Machine: two cores, hours ({len(search())} runs); the data file under {SHARED}.
{STUDY_MODEL}
The held-out pairs are not read: what is measured is a quarter of the training prompts, left out of training.""",
            STUDY
            | {
                "train": STUDY_TRAIN | {"arms": list(search()), "seeds": [0], "kl_prompts": 0},
                "report": {"title": "Learning rates for SmolLM2-135M-Instruct on PKU-SafeRLHF test pairs"},
            },
        ),
        "smollm2-pku-full": (
            f"""The preset smollm2-pku at full size: all pairs of the file, three epochs, five seeds of every arm.
Machine: a GPU, hours (80 runs; without DVC by benchmarks/study.py); the data file under {SHARED}.
{STUDY_MODEL}
Learning rates are those of smollm2-pku.""",
            STUDY
            | {
                "cleaning": {},
                "train": STUDY_TRAIN | {"arms": list(study()), "seeds": [0, 1, 2, 3, 4], "epochs": 3, "evaluations": 6},
                "report": {"title": "B-DPO on SmolLM2-135M-Instruct and PKU-SafeRLHF test pairs, at full size"},
            },
        ),
        "pku-small": small(
            PKU,
            "B-DPO and DPO on a PKU-SafeRLHF file.",
            PKU_ROWS,
            "B-DPO on PKU-SafeRLHF test pairs, small model",
            PKU_REFERENCE,
            takes="minutes",
            train={"epochs": 1, "evaluations": 5, "end_pairs": 128},
        ),
        "hh-small": small(
            HH,
            "B-DPO and DPO on an HH-RLHF file.",
            HH_ROWS,
            "B-DPO on HH-RLHF harmless test pairs, small model",
            HH_REFERENCE,
            takes="minutes",
            score={"too_long": "reject"},
            train={"epochs": 1, "batch_pairs": 8, "evaluations": 5, "eval_pairs": 64, "end_pairs": 64},
        ),
    }


def text(name: str) -> str:
    """The preset's file."""
    about, differences = presets()[name]
    base = Params().model_dump()
    merged = {section: base[section] | differences.get(section, {}) for section in base if section != "arms"}
    merged["arms"] = differences.get("arms", {arm: params.record() for arm, params in Params().arms.items()})
    heading = "\n".join(f"# {line}" for line in about.splitlines())
    return f"{heading}\n#\n{to_yaml(Params.model_validate(merged))}"


if __name__ == "__main__":
    for name in presets():
        (FOLDER / f"{name}.yaml").write_text(text(name), encoding="utf-8")
