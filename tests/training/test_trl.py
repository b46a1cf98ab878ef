"""With weights one our trainer's loss is TRL's DPO loss: same pairs, policy and reference, TRL's own tokenisation."""

import copy

import pytest
import torch
from tiny import many, save_model

from curate import models, params
from curate.objectives.bdpo import bdpo
from curate.rendering import load_tokenizer
from curate.scoring.forward import Batch, response_logps
from curate.scoring.score import score
from curate.scoring.transformers import load_model
from curate.selection.weights import weigh
from curate.training.pairs import PairDataset, collate

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
    model = models.resolve(folder)
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
    dataset = PairDataset(tokenizer, weights)
    inputs = collate([dataset[row] for row in range(8)])
    with torch.no_grad():
        chosen, rejected = response_logps(policy, Batch(*(inputs[name] for name in Batch._fields))).chunk(2)
    ours = bdpo(chosen, rejected, *(inputs[n] for n in list(inputs)[3:]), beta=0.1).loss.mean().item()

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
