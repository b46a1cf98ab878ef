"""With weights one our trainer's loss is TRL's DPO loss: same pairs, policy and reference, TRL's own tokenisation."""

import copy

import polars as pl
import pytest
import torch
from tiny import many, save_model

from curate.models.load import load_model
from curate.models.rendering import load_tokenizer
from curate.models.resolve import resolve
from curate.project import params
from curate.project.params import ArmParams, TrainParams
from curate.scoring.score import score
from curate.selection.weights import weigh
from curate.training import arms
from curate.training.pairs import Collator, PairDataset
from curate.training.policy import make_policy
from curate.training.trainer import PairTrainer

# No newline after the end of turn: TRL would train on it, we do not.
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_dpo_is_trls_dpo(tmp_path):
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    folder = save_model(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    model = resolve(folder)
    tokenizer = load_tokenizer(model)
    reference = load_model(model, "float32")
    policy = copy.deepcopy(reference)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))

    frame = many(8)
    scored = score(frame, model, params.ScoreParams(engine="transformers"), tmp_path / "store").scores
    weights = weigh(scored, params.WeighParams(scheme="none", scaling="none"))
    arm = ArmParams(objective="bdpo")
    settings = arms.settings(arm, TrainParams(beta=0.1))
    # Every pair trains; one of them, again, is held out.
    weights = pl.concat([weights.with_columns(split=pl.lit(s)).head(n) for s, n in (("train", 8), ("heldout", 1))])
    dataset = PairDataset(tokenizer, arms.select(weights, arm, settings, params.WeighParams()).training)
    pair_trainer = PairTrainer.__new__(PairTrainer)
    pair_trainer.objective, pair_trainer.settings = settings.objective, settings.loss
    inputs = Collator()([dataset[row] for row in range(8)])
    with torch.no_grad():
        ours = pair_trainer.compute_loss(make_policy(copy.deepcopy(policy)), inputs).item()

    trainer = trl.DPOTrainer(
        model=policy,
        ref_model=reference,
        args=trl.DPOConfig(
            output_dir=str(tmp_path / "trl"),
            beta=0.1,
            use_cpu=True,
            bf16=False,
            per_device_train_batch_size=8,
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(frame.select("prompt", "chosen", "rejected").to_dicts()),
        processing_class=tokenizer,
    )
    batch = next(iter(trainer.get_train_dataloader()))
    with torch.no_grad():
        theirs = trainer.compute_loss(policy.eval(), batch).item()
    assert ours != pytest.approx(0.693147, abs=1e-2)  # the policy is not the reference
    assert ours == pytest.approx(theirs, abs=1e-5)
