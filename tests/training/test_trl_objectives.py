"""Our objectives are TRL's own: TRL's batch, policy and reference, with log-probabilities that are computed plainly."""

import copy

import pytest
import torch
from tiny import many, pairs, save_model

from curate.models.load import load_model
from curate.models.rendering import load_tokenizer
from curate.models.resolve import resolve
from curate.objectives.registry import OBJECTIVES

trl = pytest.importorskip("trl")
# TRL's trainers are given text; an end of turn is the text's own.
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer_and_models(tmp_path_factory):
    """(tokenizer, policy, reference): random models, the policy some way from the reference."""
    folder = save_model(tmp_path_factory.mktemp("model"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    model = resolve(folder)
    reference = load_model(model, "float32")
    policy = copy.deepcopy(reference)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return load_tokenizer(model), policy.eval(), reference.eval()


@torch.no_grad()
def sums(model, input_ids, attention_mask, response):
    """(log pi(y|x), |y|, mean of log p_t - log sum_v p_v^2), [sequences] each; `response` is 1 on its tokens."""
    logps = model(input_ids=input_ids, attention_mask=attention_mask).logits[:, :-1].log_softmax(-1)
    tokens, scored = logps.gather(-1, input_ids[:, 1:, None]).squeeze(-1), response[:, 1:].bool()
    aligned = tokens - (2 * logps).logsumexp(-1)
    count = scored.sum(-1).float()
    return tokens.where(scored, 0).sum(-1), count, aligned.where(scored, 0).sum(-1) / count


def by_name(policy, reference, input_ids, attention_mask, response):
    """The objectives' tensors of a batch that has the chosen responses first."""
    logps, tokens, alignment = sums(policy, input_ids, attention_mask, response)
    ref_logps, *_ = sums(reference, input_ids, attention_mask, response)
    named = {"policy_{}_logps": logps, "ref_{}_logps": ref_logps, "{}_tokens": tokens, "{}_alignment": alignment}
    return {
        name.format(side): half
        for name, both in named.items()
        for side, half in zip(("chosen", "rejected"), both.chunk(2), strict=True)
    }


def trainer_of(kind, config, frame, tokenizer, policy, **options):
    from datasets import Dataset

    settings = {"use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True}
    return kind(
        model=policy,
        args=config(per_device_train_batch_size=frame.height, **settings, **options.pop("settings")),
        train_dataset=Dataset.from_list(frame.select("prompt", "chosen", "rejected").to_dicts()),
        processing_class=tokenizer,
        **options,
    )


@pytest.mark.parametrize(
    ("name", "settings"),
    [("dpo", {"loss_type": "sigmoid"}), ("ipo", {"loss_type": "ipo"}), ("wpo", {"use_weighting": True})],
)
def test_with_a_reference(name, settings, tokenizer_and_models, tmp_path):
    tokenizer, policy, reference = tokenizer_and_models
    trainer = trainer_of(
        trl.DPOTrainer,
        trl.DPOConfig,
        many(8),
        tokenizer,
        copy.deepcopy(policy),
        ref_model=copy.deepcopy(reference),
        settings={"output_dir": str(tmp_path), "beta": 0.2, **settings},
    )
    batch = next(iter(trainer.get_train_dataloader()))
    with torch.no_grad():
        theirs = trainer.compute_loss(trainer.model.eval(), batch).item()
    inputs = by_name(policy, reference, batch["input_ids"], batch["attention_mask"], batch["completion_mask"])
    assert (inputs["policy_chosen_logps"] - inputs["ref_chosen_logps"]).abs().min() > 0.01
    ours = OBJECTIVES[name].loss(inputs, {"beta": 0.2})
    assert ours.mean().item() == pytest.approx(theirs, rel=1e-5, abs=1e-5)


def cpo_batch(frame, tokenizer_and_models, tmp_path, **settings):
    """(TRL's trainer, its batch, our tensors)."""
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    tokenizer, policy, reference = tokenizer_and_models
    trainer = trainer_of(
        CPOTrainer,
        CPOConfig,
        frame,
        tokenizer,
        copy.deepcopy(policy),
        settings={"output_dir": str(tmp_path), "remove_unused_columns": False, **settings},
    )
    trainer.model.eval()
    batch = next(iter(trainer.get_train_dataloader()))
    joined = trainer.concatenated_inputs(batch, padding_value=trainer.pad_token_id)
    inputs = by_name(
        policy,
        reference,
        joined["concatenated_input_ids"],
        joined["concatenated_attention_mask"],
        joined["concatenated_labels"] != -100,
    )
    return trainer, batch, inputs


@pytest.mark.parametrize(
    ("name", "theirs", "ours"),
    [
        ("cpo", {"loss_type": "sigmoid", "beta": 0.2}, {"beta": 0.2, "alpha": 0.0}),
        # gamma itself there, gamma / beta here
        ("simpo", {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0}, {}),
        ("simpo", {"loss_type": "simpo", "beta": 1.5, "simpo_gamma": 0.3}, {"beta": 1.5, "gamma_beta_ratio": 0.2}),
    ],
)
def test_preference_term_without_a_reference(name, theirs, ours, tokenizer_and_models, tmp_path):
    """Pair by pair, without CPO's likelihood term."""
    trainer, batch, inputs = cpo_batch(many(8), tokenizer_and_models, tmp_path, cpo_alpha=0.0, **theirs)
    with torch.no_grad():
        chosen, rejected, *_ = trainer.concatenated_forward(trainer.model, batch)
        expected, *_ = trainer.cpo_loss(chosen, rejected)
    assert expected.std() > 0.01
    torch.testing.assert_close(OBJECTIVES[name].loss(inputs, ours), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("equal", [True, False])
def test_cpos_likelihood_term(equal, tokenizer_and_models, tmp_path):
    """Ours is the pairs' mean of means over tokens, TRL's a mean over tokens: the same where all |y_w| are equal."""
    rows = [(f"question {i}", f"an answer {i}" + " at length" * (0 if equal else i), "words " * i) for i in range(1, 7)]
    trainer, batch, inputs = cpo_batch(
        pairs(*rows), tokenizer_and_models, tmp_path, loss_type="sigmoid", beta=0.2, cpo_alpha=0.7
    )
    with torch.no_grad():
        theirs, _ = trainer.get_batch_loss_metrics(trainer.model, batch)
    ours = OBJECTIVES["cpo"].loss(inputs, {"beta": 0.2, "alpha": 0.7}).mean()
    logps, tokens = inputs["policy_chosen_logps"], inputs["chosen_tokens"]
    between = 0.7 * (logps.sum() / tokens.sum() - (logps / tokens).mean())
    assert (abs(between) < 1e-6) == equal
    torch.testing.assert_close(ours - between, theirs, rtol=1e-5, atol=1e-5)
