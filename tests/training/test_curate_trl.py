"""B-DPO inside TRL: TRL's own loss with weights one, our trainer's with any, and no stored number of other tokens."""

import copy
import importlib
import math
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from tiny import CHATML, small
from transformers import AutoModelForCausalLM, TrainingArguments

from curate.base import files
from curate.base.errors import InputError, UsageError
from curate.models.load import load_model
from curate.models.rendering import load_tokenizer, render_pairs
from curate.objectives.bdpo import bdpo
from curate.pairs.schema import WEIGHTS
from curate.project import params
from curate.project.params import ArmParams, TrainParams
from curate.training import arms
from curate.training.pairs import Collator, PairDataset
from curate.training.policy import make_policy
from curate.training.trainer import PairTrainer

trl = pytest.importorskip("trl")
from datasets import Dataset, disable_progress_bars  # noqa: E402

from curate.trl import WeightedDPOTrainer  # noqa: E402

disable_progress_bars()
REFERENCE = ["ref_chosen_logps", "ref_rejected_logps"]
ARM = ArmParams(objective="bdpo")


@pytest.fixture(scope="module")
def sides(weights, tmp_path_factory):
    """(training, held-out) pairs, from the file that `curate weigh` writes."""
    folder = tmp_path_factory.mktemp("weights")
    path = folder / "weights.parquet"
    files.write_parquet(weights, path, {})
    return [
        Dataset.from_parquet(str(path), filters=[("split", "==", side)], cache_dir=str(folder / side))
        for side in ("train", "heldout")
    ]


@pytest.fixture(scope="module")
def frame(weights):
    """The training pairs as our own trainer takes them."""
    return arms.select(weights, ARM, arms.settings(ARM, TrainParams()), params.WeighParams()).training


@pytest.fixture
def make(model, sides, tmp_path):
    """A trainer on the training pairs in batches of 8; its model is the one that scored them."""

    def make(kind=WeightedDPOTrainer, policy=None, options=(), **more):
        settings = {"use_cpu": True, "bf16": False, "report_to": "none", "disable_tqdm": True, "max_length": None}
        settings |= {"per_device_train_batch_size": 8, "gradient_checkpointing": False, "save_strategy": "no"}
        args = trl.DPOConfig(str(tmp_path / "trl"), **settings | dict(options))
        return kind(policy or str(model.path), args=args, **{"train_dataset": sides[0]} | more)

    return make


def moved(policy, by=0.02):
    """The policy some way from where it was."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return policy


def first(trainer, count=8):
    return trainer.data_collator([trainer.train_dataset[row] for row in range(count)])


def but(dataset, row, **values):
    """The dataset with another value in one row."""
    table = dataset.to_polars()
    at = pl.int_range(pl.len()) == row
    return Dataset.from_polars(
        table.with_columns(pl.when(at).then(pl.lit(v)).otherwise(c).alias(c) for c, v in values.items())
    )


def test_the_loss_is_our_trainers(make, model, frame):
    """Of the very tokens that were scored, though TRL would train on a newline after the end of turn as well."""
    trainer = make()
    assert trainer.ref_model is None
    policy = moved(trainer.model)
    batch = first(trainer)
    with torch.no_grad():
        found = trainer.compute_loss(policy, batch).item()
        metrics = {name: values[-1] for name, values in trainer._metrics["eval"].items()}
        logits = policy(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
        logps = logits.log_softmax(-1).gather(-1, batch["input_ids"][:, 1:, None]).squeeze(-1)
        logps = (logps * batch["completion_mask"][:, 1:]).sum(1).chunk(2)

    rows = frame.head(8)
    refs, weights = ([torch.tensor(rows[name].to_numpy()).float() for name in names] for names in (REFERENCE, WEIGHTS))
    assert (weights[0] - weights[1]).abs().max() > 1 and (logps[0] - refs[0]).abs().max() > 1
    assert found == pytest.approx(bdpo(*logps, *refs, *weights, beta=0.1).mean().item(), abs=1e-5)
    unweighted = [0.1 * (logp - ref).mean().item() for logp, ref in zip(logps, refs, strict=True)]
    assert [metrics["rewards/chosen"], metrics["rewards/rejected"]] == pytest.approx(unweighted, abs=1e-4)

    settings = arms.settings(ARM, TrainParams(beta=0.1))
    ours = PairTrainer.__new__(PairTrainer)
    ours.objective, ours.settings = settings.objective, settings.loss
    dataset = PairDataset(load_tokenizer(model), rows)
    with torch.no_grad():
        again = moved(load_model(model, "float32"))
        expected = ours.compute_loss(make_policy(again), Collator()([dataset[row] for row in range(8)])).item()
    assert found == pytest.approx(expected, abs=1e-5)
    assert abs(found - bdpo(*logps, *refs, *map(torch.ones_like, weights), beta=0.1).mean().item()) > 0.01


@pytest.mark.parametrize("kind", ["qwen2", "mixtral"])
def test_with_weights_one_it_is_trls_own_loss(make, sides, model, kind):
    """To the bit, with a reference model and TRL's own tokens, a mixture of experts' balancing loss included."""
    tokenizer = load_tokenizer(model)
    torch.manual_seed(0)
    config = small(kind, vocab_size=len(tokenizer), max_position_embeddings=256)
    reference = AutoModelForCausalLM.from_config(config)
    ones = sides[0].remove_columns([*WEIGHTS, *REFERENCE]).to_polars().with_columns(**dict.fromkeys(WEIGHTS, 1.0))
    found = []
    for trainer_kind in (WeightedDPOTrainer, trl.DPOTrainer):
        trainer = make(
            trainer_kind,
            policy=moved(copy.deepcopy(reference)),
            ref_model=copy.deepcopy(reference),
            train_dataset=Dataset.from_polars(ones),
            processing_class=tokenizer,
        )
        batch = first(trainer)
        assert "ref_chosen_logps" not in batch and trainer.aux_loss_enabled == (kind == "mixtral")
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        found.append((loss.item(), [parameter.grad for parameter in trainer.model.parameters()]))
    assert abs(found[0][0] - math.log(2)) > 0.01
    assert found[0][0] == found[1][0]
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "reference"])
def test_attention_is_capped_as_in_scoring(make, sides, model, stored):
    """Gemma 2's, which transformers' default leaves out."""
    tokenizer = load_tokenizer(model)
    torch.manual_seed(0)
    capped = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0}
    config = small("gemma2", vocab_size=len(tokenizer), max_position_embeddings=256, **capped)
    policy = AutoModelForCausalLM.from_config(config)
    options = {"processing_class": tokenizer, "check_tolerance": math.inf}
    if not stored:
        options |= {"train_dataset": sides[0].remove_columns(REFERENCE), "ref_model": copy.deepcopy(policy)}
    trainer = make(policy=policy, **options)
    plain = AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation="eager")
    plain.load_state_dict(policy.state_dict())
    for net in filter(None, (trainer.model, trainer.ref_model)):
        with torch.no_grad():
            ids = first(trainer)["input_ids"][:1]
            torch.testing.assert_close(net.eval()(ids).logits, plain.eval()(ids).logits)


@pytest.mark.parametrize(("optimizer", "rate", "accumulation"), [("sgd", 1e-2, 1), ("adamw_torch", 1e-3, 2)])
def test_three_steps_are_our_trainers(make, model, frame, sides, tmp_path, optimizer, rate, accumulation):
    """The same order of pairs, gradients accumulated over batches, and the held-out loss before and after."""
    shared = {"optim": optimizer, "learning_rate": rate, "max_steps": 3, "seed": 5, "data_seed": 5}
    shared |= {"gradient_accumulation_steps": accumulation, "eval_on_start": True, "eval_strategy": "steps"}
    shared |= {"eval_steps": 3, "adam_epsilon": 1e-4}  # an element whose gradient is rounding alone hardly moves
    theirs = make(options=shared, eval_dataset={"heldout": sides[1]})
    theirs.train()

    settings = arms.settings(ARM, TrainParams(beta=0.1))
    tokenizer = load_tokenizer(model)
    heldout = sides[1].to_polars().with_columns(harmful=pl.lit(1.0))
    ours = PairTrainer(
        objective=settings.objective,
        settings=settings.loss,
        beta=0.1,
        model=make_policy(load_model(model, "float32")),
        args=TrainingArguments(
            str(tmp_path / "ours"),
            **shared,
            per_device_train_batch_size=8,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
        ),
        train_dataset=PairDataset(tokenizer, frame),
        eval_dataset={"heldout": PairDataset(tokenizer, heldout)},
        data_collator=Collator(),
    )
    ours.train()
    before = load_model(model, "float32").state_dict()
    expected = ours.model.state_dict()
    for name, parameter in theirs.model.state_dict().items():
        torch.testing.assert_close(parameter, expected[name], rtol=0, atol=1e-5)
    assert max((expected[name] - before[name]).abs().max() for name in before) > 1e-3
    losses = [
        [entry["eval_heldout_loss"] for entry in trainer.state.log_history if "eval_heldout_loss" in entry]
        for trainer in (theirs, ours)
    ]
    assert len(losses[0]) == 2 and losses[0][1] < losses[0][0] - 0.01
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    with pytest.raises(ValueError, match="after training has"):  # TRL's limit: no reference to compute with
        theirs.evaluate(sides[1])


def test_the_lines_of_the_docs(weights, model, tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "trl.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0].replace("Qwen/Qwen2-7B-Instruct", str(model.path))
    code = code.replace('DPOConfig("out", ', 'DPOConfig("out", use_cpu=True, bf16=False, ')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path))
    files.write_parquet(weights, "weights.parquet", {})
    names = {}
    exec(code, names)
    losses = [entry["eval_loss"] for entry in names["trainer"].state.log_history if "eval_loss" in entry]
    assert len(losses) == 3 and losses[-1] < losses[0]


def test_lora(make, sides):
    """Adapters alone are trained; a dataset that comes later is weighted as well, its stored log-probs checked."""
    from peft import LoraConfig

    adapters = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4)
    trainer = make(peft_config=adapters, options={"max_steps": 1, "learning_rate": 1e-2, "logging_steps": 1})
    before = {name: parameter.clone() for name, parameter in trainer.model.named_parameters()}
    trainer.train()
    changed = {name for name, parameter in trainer.model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed and all("lora_B" in name for name in changed)
    start = trainer.state.log_history[0]["loss"]
    scales = sorted(sides[0]["pair_scale"])
    assert scales[0] * math.log(2) - 1e-4 < start < scales[-1] * math.log(2) + 1e-4
    wrong = sides[1].to_polars().with_columns(pl.col(REFERENCE) * 1.01)
    trainer.evaluate(sides[1])
    with pytest.raises(InputError, match="not this model's"):
        trainer.evaluate(Dataset.from_polars(wrong))


def test_trls_tokens_where_no_log_probs_are_stored(make, sides, model):
    """TRL's response has the newline that follows the end of turn, and is no other otherwise."""
    stored = make()
    bare = make(train_dataset=sides[0].remove_columns(REFERENCE))
    assert bare.ref_model is not None
    newline = load_tokenizer(model)("\n")["input_ids"]
    for ours, theirs in zip(stored.train_dataset, bare.train_dataset, strict=True):
        assert ours["prompt_ids"] == theirs["prompt_ids"]
        assert [ours["chosen_ids"] + newline, ours["rejected_ids"] + newline] == [
            theirs["chosen_ids"],
            theirs["rejected_ids"],
        ]
    # Given later, stored log-probs do not meet those tokens: the reference model is asked.
    assert bare.evaluate(sides[1].select([0]))["eval_loss"] == pytest.approx(
        sides[1]["pair_scale"][0] * math.log(2), abs=1e-5
    )


def test_a_dataset_without_stored_log_probs_beside_one_with_them(make, sides):
    trainer = make(eval_dataset=sides[1].remove_columns(REFERENCE))
    found = torch.tensor([trainer.eval_dataset[name] for name in REFERENCE])
    torch.testing.assert_close(found, torch.tensor([sides[1][name] for name in REFERENCE]), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("loss_type", "ipo"),
        ("loss_type", ["sigmoid", "sft"]),
        ("loss_weights", [0.5]),
        ("label_smoothing", 0.1),
        ("ld_alpha", 0.5),
        ("f_divergence_type", "js_divergence"),
        ("use_weighting", True),
        ("padding_free", True),
        ("use_liger_kernel", True),
        ("sync_ref_model", True),
    ],
)
def test_options_that_contradict_the_weights(make, option, value):
    with pytest.raises(UsageError) as caught:
        make(options={option: value})
    assert caught.value.details["field"] == f"DPOConfig.{option}"


def test_a_reference_model_beside_stored_log_probs(make, model):
    with pytest.raises(UsageError) as caught:
        make(ref_model=load_model(model, "float32"))
    assert caught.value.details["field"] == "ref_model"


def test_a_dataset_that_cannot_be_checked(make, sides):
    with pytest.raises(UsageError, match="cannot be checked"):
        make(train_dataset=sides[0].to_iterable_dataset())
    with pytest.raises(InputError, match="no pairs"):
        make(train_dataset=sides[0].select([]))


@pytest.mark.parametrize("column", [*WEIGHTS, *REFERENCE])
def test_a_column_too_few(make, sides, column):
    with pytest.raises(InputError, match="not one of weighted pairs") as caught:
        make(eval_dataset={"later": sides[1].remove_columns([column])})
    assert caught.value.details["field"] == column and "later" in caught.value.what


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *((name, value) for name in WEIGHTS for value in (None, math.nan, math.inf, -0.1)),
        *((name, value) for name in REFERENCE for value in (None, math.nan, -math.inf, 0.1)),
    ],
)
def test_a_number_that_cannot_be(make, sides, column, value):
    with pytest.raises(InputError, match="that cannot be") as caught:
        make(train_dataset=but(sides[0], 7, **{column: value}))
    assert caught.value.details["field"] == column
    assert (caught.value.details["row"], caught.value.details["found"]) == ("7", str(value))


def test_stored_log_probs_of_other_tokens(make, sides, model):
    """Another template or tokenizer, one that cuts, or a table that was put together wrongly."""
    tokenizer = load_tokenizer(model)
    tokenizer.chat_template = CHATML.replace("{% for", "<|im_start|>system\n<|im_end|>\n{% for", 1)
    with pytest.raises(InputError, match="of other tokens") as caught:
        make(processing_class=tokenizer)
    assert (caught.value.details["row"], caught.value.details["field"]) == ("0", "prompt_tokens")
    shifted = sides[0].to_polars()["rejected_tokens"][20] + 1
    with pytest.raises(InputError, match="of other tokens") as caught:
        make(train_dataset=but(sides[0], 20, rejected_tokens=shifted))
    assert (caught.value.details["row"], caught.value.details["field"]) == ("20", "rejected_tokens")
    longest = render_pairs(load_tokenizer(model), sides[0].to_polars()).select(
        pl.col("prompt_ids").list.len() + pl.max_horizontal(pl.col("chosen_ids", "rejected_ids").list.len())
    )
    row, length = int(longest.to_series().arg_max()), int(longest.to_series().max())
    make(options={"max_length": length})
    with pytest.raises(InputError, match="would cut") as caught:
        make(options={"max_length": length - 1})
    assert caught.value.details["row"] == str(row)


def test_texts_that_are_no_conversations(make, sides):
    texts = (
        sides[0]
        .to_polars()
        .with_columns(pl.col(c).list.first().struct["content"].alias(c) for c in ("chosen", "rejected"))
    )
    with pytest.raises(InputError, match="not one of conversations"):
        make(train_dataset=Dataset.from_polars(texts))


def test_stored_log_probs_of_another_model(make, model):
    near = moved(load_model(model, "float32"), 1e-7)
    make(policy=near, processing_class=load_tokenizer(model))
    other = moved(load_model(model, "float32"))
    with pytest.raises(InputError, match="not this model's") as caught:
        make(policy=other, processing_class=load_tokenizer(model))
    assert caught.value.details["field"] == "train dataset, ref_chosen_logps, ref_rejected_logps"
    make(policy=other, processing_class=load_tokenizer(model), check_tolerance=1e3)


def test_another_trl(make, monkeypatch):
    """Its version, what it calls us with, or what it computes."""
    with monkeypatch.context() as patch:
        patch.setattr(trl, "__version__", "1.17.0")
        with pytest.raises(InputError, match="does not know this TRL") as caught:
            make()
        assert caught.value.details["found"].startswith("trl 1.17.0")
        assert caught.value.details["remedy"] == "pip install 'trl==1.16.0'"
    with monkeypatch.context() as patch:
        patch.setattr(trl.DPOTrainer, "_precompute_ref_logps", lambda self, dataset: (self, dataset))
        with pytest.raises(InputError, match=r"_precompute_ref_logps\(self, dataset\)"):
            make()
    with monkeypatch.context() as patch:
        patch.delattr(trl.DPOTrainer, "compute_ref_log_probs")
        with pytest.raises(InputError, match="no such method"):
            make()
    with monkeypatch.context() as patch:
        own = trl.DPOTrainer._compute_loss

        def halved(self, model, inputs, return_outputs):
            return own(self, model, inputs, return_outputs) / 2

        patch.setattr(trl.DPOTrainer, "_compute_loss", halved)
        with pytest.raises(InputError, match="its DPO loss is"):
            make().train()


def test_without_trl(monkeypatch):
    monkeypatch.setitem(sys.modules, "trl", None)
    monkeypatch.delitem(sys.modules, "curate.trl")
    with pytest.raises(InputError, match="needs TRL") as caught:
        importlib.import_module("curate.trl")
    assert caught.value.details["remedy"] == "pip install 'trl==1.16.0'"
