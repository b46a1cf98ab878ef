"""Training an arm: where it starts, what it writes, what it refuses."""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tiny import byte_tokenizer, save_model
from tiny import pairs as pairs_of

from curate.base import files
from curate.base.errors import InputError, OutputError, UsageError
from curate.models.rendering import load_tokenizer
from curate.models.resolve import resolve
from curate.project import params
from curate.project.params import ArmParams
from curate.scoring.score import score
from curate.selection.subsets import split
from curate.selection.weights import weigh
from curate.training import arms, checkpoints
from curate.training.build import build
from curate.training.pairs import MEASURED, NUMBERS, Collator, PairDataset, Refusals, draw
from curate.training.plan import plan
from curate.training.train import train
from curate.training.trainer import ShowProgress

ARMS = params.DEFAULT_ARMS
SHORT = params.TrainParams(
    epochs=1, batch_pairs=8, evaluations=2, eval_pairs=16, checkpoints=3, kl_prompts=2, kl_tokens=2
)


def test_what_an_arm_writes(weights, model, tmp_path):
    metrics = train(
        weights, model, SHORT, ARMS["bdpo"], "bdpo", tmp_path / "run", tmp_path / "state", {"stage": "weigh"}
    )
    assert metrics == files.read_json(tmp_path / "run" / "metrics.json")
    # m = 0 at the start, so that every pair's loss is s ln 2.
    scale = weights.filter(pl.col("split") == "heldout")["pair_scale"].mean()
    assert metrics["start"]["loss"] == pytest.approx(scale * math.log(2), abs=1e-4)
    curve = pl.read_csv(tmp_path / "run" / "curve.csv")
    assert set(curve["side"]) == {"train", "heldout"}
    assert curve["step"].min() == 0 and curve["step"].max() == metrics["steps"] == 6
    for row in curve.rows(named=True):
        assert row["rewards/margins"] == pytest.approx(row["rewards/chosen"] - row["rewards/rejected"], abs=1e-6)
    last = curve.filter((pl.col("step") == 6) & (pl.col("side") == "heldout"))
    assert last["rewards/margins"].item() == metrics["heldout"]["rewards/margins"]
    record = files.read_json(tmp_path / "run" / "model" / "curate.json")
    assert record["arm"] == "bdpo" and record["from"] == {"stage": "weigh"}
    assert record["model"]["digest"] == model.digest
    assert not list((tmp_path / "state" / "checkpoints").glob("*"))


def test_every_pair_has_its_rewards_at_the_end(weights, model, tmp_path):
    """Of all pairs of both sides, where the curve is of four each; the metrics are their means."""
    options = SHORT.model_copy(update={"eval_pairs": 4, "end_pairs": 1000})
    metrics = train(weights, model, options, ARMS["bdpo"], "bdpo", tmp_path / "run", tmp_path / "state")
    rewards = pl.read_parquet(tmp_path / "run" / "rewards.parquet")
    assert rewards.columns == [
        *("pair_id", "side", "loss", "chosen_reward", "rejected_reward", "margin", "chosen_logps", "rejected_logps")
    ]
    joined = weights.join(rewards, on="pair_id", validate="1:1")
    assert joined.height == weights.height and (joined["side"] == joined["split"].cast(pl.String)).all()
    for side in ("chosen", "rejected"):
        delta = joined[f"{side}_logps"] - joined[f"ref_{side}_logps"]
        assert np.allclose(joined[f"{side}_reward"], options.beta * delta, atol=1e-4)
    assert np.allclose(rewards["margin"], rewards["chosen_reward"] - rewards["rejected_reward"], atol=1e-5)
    for side in ("train", "heldout"):
        margins = rewards.filter(side=side)["margin"]
        assert metrics[side]["rewards/margins"] == pytest.approx(margins.mean(), abs=1e-6)
        assert metrics[side]["rewards/accuracies"] == (margins > 0).mean()
    # As many as the evaluations have: what the last one found, exactly.
    same = train(weights, model, SHORT, ARMS["bdpo"], "bdpo", tmp_path / "few", tmp_path / "state")
    few = pl.read_parquet(tmp_path / "few" / "rewards.parquet").filter(side="heldout")
    assert few.height == 12 and same["heldout"]["rewards/margins"] == pytest.approx(few["margin"].mean(), abs=1e-6)
    assert few["loss"].mean() == pytest.approx(same["heldout"]["loss"], abs=1e-6)


def test_validation_prompts_are_of_the_training_side(weights):
    """The held-out pairs are not read; what is validated is not trained on, and no prompt is on both sides."""
    arm = ARMS["dpo"]
    settings = arms.settings(arm, SHORT)
    whole = arms.select(weights, arm, settings, params.WeighParams())
    found = arms.select(weights, arm, settings, params.WeighParams(), validation=0.25)
    ids = [set(frame["pair_id"]) for frame in (found.training, found.heldout)]
    assert ids[0] | ids[1] == set(whole.training["pair_id"]) and not ids[0] & ids[1]
    prompts = [set(frame["prompt_key"]) for frame in (found.training, found.heldout)]
    assert not prompts[0] & prompts[1] and len(prompts[1]) == pytest.approx(
        whole.training["prompt_key"].n_unique() / 4, abs=1
    )


def test_rewards_are_beta_delta_unweighted(weights, model, tmp_path):
    """The logged rewards of a weighted arm, against log-probs scored anew with the trained model."""
    train(weights, model, SHORT, ARMS["bdpo"], "bdpo", tmp_path / "run", tmp_path / "state")
    heldout = weights.filter(pl.col("split") == "heldout")
    after = score(
        heldout,
        resolve(tmp_path / "run" / "model"),
        params.ScoreParams(engine="transformers"),
        tmp_path / "store",
    ).scores
    metrics = files.read_json(tmp_path / "run" / "metrics.json")
    for side in ("chosen", "rejected"):
        column = f"ref_{side}_logps"
        expected = SHORT.beta * (after[column] - heldout[column]).mean()
        assert metrics["heldout"][f"rewards/{side}"] == pytest.approx(expected, abs=1e-4)


def test_weights_change_the_run_and_weights_of_one_are_dpo(weights, model, tmp_path):
    runs = {}
    ones = weights.with_columns(chosen_weight=pl.lit(1.0), rejected_weight=pl.lit(1.0), pair_scale=pl.lit(1.0))
    for name, frame, arm in (("dpo", weights, "dpo"), ("ones", ones, "bdpo"), ("bdpo", weights, "bdpo")):
        train(frame, model, SHORT, ARMS[arm], "x", tmp_path / name, tmp_path / "state")
        runs[name] = (tmp_path / name / "model" / "model.safetensors").read_bytes()
    assert runs["dpo"] == runs["ones"] != runs["bdpo"]


def test_scores_of_another_model_are_refused(weights, tmp_path):
    other = resolve(save_model(tmp_path / "other", seed=1))
    with pytest.raises(InputError, match="are not this model's") as caught:
        train(weights, other, SHORT, ARMS["dpo"], "dpo", tmp_path / "run", tmp_path / "state")
    assert "nats/token" in caught.value.details["found"] and not (tmp_path / "run").exists()


def test_a_run_that_diverges_says_so(weights, model, tmp_path):
    wild = SHORT.model_copy(update={"learning_rate": 1e30, "warmup_fraction": 0.0, "scheduler": "constant"})
    with pytest.raises(InputError, match="diverged"):
        train(weights, model, wild, ARMS["dpo"], "dpo", tmp_path / "run", tmp_path / "state")
    assert not (tmp_path / "run").exists()


def test_a_state_folder_that_cannot_be_written(weights, model, tmp_path):
    (tmp_path / "state").write_text("")
    with pytest.raises(OutputError):
        train(weights, model, SHORT, ARMS["dpo"], "dpo", tmp_path / "run", tmp_path / "state")


def test_a_draw_is_the_same_whatever_the_order(weights):
    assert draw(weights, 7, 0).equals(draw(weights.reverse(), 7, 0))
    assert not draw(weights, 7, 0).equals(draw(weights, 7, 1))


def harmful(weights):
    """Three training pairs as an arm has them, the first of a harmless query."""
    one = arms.select(weights, ARMS["bdpo"], arms.settings(ARMS["bdpo"], SHORT), params.WeighParams()).training
    return pl.concat([one.filter(pl.col("harmful") == 0).head(1), one.filter(pl.col("harmful") == 1).head(2)])


def test_a_batch_has_each_sequence_once_and_says_where(weights, model):
    frame = harmful(weights)
    dataset = PairDataset(load_tokenizer(model), frame)
    pairs = [dataset[row] for row in range(3)]
    batch = Collator()(pairs)
    assert batch["chosen_at"].tolist() == batch["refusal_at"].tolist() == [0, 1, 2]
    assert batch["rejected_at"].tolist() == [3, 4, 5]
    wanted = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    for found, sequence in zip(batch["work"].sequences, wanted, strict=True):
        assert np.concatenate(found).tolist() == np.concatenate(sequence).tolist()
    assert not batch["work"].alignment
    assert Collator(alignment=True)(pairs)["work"].alignment
    for name in NUMBERS:
        assert batch[name].shape == (3,) and batch[name].dtype == torch.float32
    for name in ("ref_chosen_logps", "ref_rejected_logps", "chosen_weight", "rejected_weight", "rejected_tokens"):
        assert batch[name].tolist() == pytest.approx(frame[name].to_list())
    assert batch["rejected_tokens"].tolist() == [len(pair.rejected.response_ids) for pair in pairs]


def test_a_batch_of_doors_has_refusals_for_harmful_pairs_only(weights, model):
    """Row 0 is of a harmless query, rows 1 and 2 are not; of each no sequence more than its loss needs."""
    frame = harmful(weights)
    assert frame["harmful"].to_list() == [0, 1, 1]
    factors = {name: np.full(99, number + 2, dtype=np.float32) for number, name in enumerate(frame["pair_id"])}
    for seed in range(99):  # until a draw has both a beginning and none
        dataset = PairDataset(load_tokenizer(model), frame, Refusals(seed, 4, 10**6, factors))
        pairs = [dataset[row] for row in range(3)]
        plain = [PairDataset(load_tokenizer(model), frame)[row] for row in range(3)]
        begun = [len(pair.refusal.prompt_ids) - len(pair.rejected.prompt_ids) for pair in pairs[1:]]
        if 0 in begun and any(begun):
            break
    assert max(begun) <= 4
    assert pairs[0].rejected is None and pairs[0].refusal is None and pairs[0].refusal_weights is None
    for pair, whole, length in zip(pairs[1:], plain[1:], begun, strict=True):
        assert pair.chosen is None
        prompt, rejected = whole.rejected
        assert pair.refusal.prompt_ids.tolist() == [*prompt, *rejected[:length]]
        assert pair.refusal.response_ids.tolist() == whole.chosen.response_ids.tolist()
    batch = Collator()(pairs)
    assert batch["chosen_at"].tolist() == [0, -1, -1]
    assert batch["rejected_at"].tolist() == [-1, 1, 2]
    assert batch["refusal_at"].tolist() == [0, 3, 4]  # of a benign pair the chosen response: any finite number does
    assert [w if w is None else w[0] for w in batch["work"].token_weights] == [None, None, None, 3, 4]


def test_what_is_measured_has_doors_refusals_beside_both_responses(weights, model):
    """The same draw of beginnings whatever the epoch of training; weights of tokens on the refusal alone."""
    frame = harmful(weights)
    factors = {name: np.full(99, number + 2, dtype=np.float32) for number, name in enumerate(frame["pair_id"])}
    tokenizer, refusals = load_tokenizer(model), Refusals(0, 4, 10**6, factors)
    trained, plain = PairDataset(tokenizer, frame, refusals), PairDataset(tokenizer, frame)
    measured = PairDataset(tokenizer, frame, refusals, measured=True)
    trained.epoch = MEASURED
    pairs = [measured[row] for row in range(3)]
    for row, pair in enumerate(pairs):
        for side in ("chosen", "rejected"):
            assert np.concatenate(getattr(pair, side)).tolist() == np.concatenate(getattr(plain[row], side)).tolist()
    assert pairs[0].refusal is None
    for row in (1, 2):
        assert np.concatenate(pairs[row].refusal).tolist() == np.concatenate(trained[row].refusal).tolist()
    batch = Collator()(pairs)
    assert batch["refusal_at"].tolist() == [0, 6, 7]
    assert [w if w is None else w[0] for w in batch["work"].token_weights] == [None] * 6 + [3, 4]


@pytest.mark.parametrize("objective", ["door", "w-door"])
def test_the_loss_that_is_reported_is_the_one_that_is_trained(weights, model, tmp_path, objective):
    """Of the same pairs, beginnings and weights; on held-out pairs too, whose refusals are weighted as well."""
    options = SHORT.model_copy(update={"eval_pairs": 1000, "kl_prompts": 0, "learning_rate": 2e-3})
    arm = ArmParams(objective=objective, settings={"tau": 0.05} if objective == "w-door" else {})
    given = (weights, model, options, arm, objective)
    planned = plan(*given, tmp_path / "other", tmp_path / "state")
    built = build(planned, train)
    sides = {"train": planned.pairs.training, "heldout": planned.pairs.heldout}
    start = {}
    for side, rows in sides.items():
        dataset = PairDataset(built.tokenizer, draw(rows, 1000, 0), built.measuring)
        dataset.epoch = MEASURED
        with torch.no_grad():
            batch = built.trainer.tensors(built.policy, Collator()([dataset[row] for row in range(len(dataset))]))
        start[side] = planned.settings.objective.loss(batch, planned.settings.loss).mean().item()
    metrics = train(*given, tmp_path / "run", tmp_path / "state")
    assert metrics["start"]["loss"] == pytest.approx(start["heldout"], rel=1e-5)
    curve = pl.read_csv(tmp_path / "run" / "curve.csv").filter(side="train", step=0)
    assert curve["loss"].item() == pytest.approx(start["train"], rel=1e-5)
    losses = pl.read_parquet(tmp_path / "run" / "rewards.parquet").group_by("side").agg(pl.col("loss").mean())
    for side, loss in losses.iter_rows():
        assert loss == pytest.approx(metrics[side]["loss"], rel=1e-5)


def test_w_door_without_a_harmful_heldout_pair(weights, model, tmp_path):
    benign = pl.when(pl.col("split") == "heldout").then(pl.lit(True)).otherwise("rejected_safe")
    options = SHORT.model_copy(update={"kl_prompts": 0})
    frame = weights.with_columns(rejected_safe=benign)
    metrics = train(frame, model, options, ArmParams(objective="w-door"), "x", tmp_path / "run", tmp_path / "state")
    assert math.isfinite(metrics["heldout"]["loss"])


def test_doors_beginnings_have_nothing_of_what_ends_a_response(weights, model):
    """A template that writes a space and the end of text behind a response, as Llama 2's."""
    tokenizer = load_tokenizer(model)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}[{{ m['content'] }}]{% else %}{{ m['content'] }} "
        "{{ eos_token }}{% endif %}{% endfor %}"
    )
    frame = harmful(weights)
    dataset = PairDataset(tokenizer, frame, Refusals(0, 10**6, 10**6))
    for row, turns in enumerate(frame["rejected"].to_list()):
        assert tokenizer.decode(dataset.beginnings[row]) == turns[-1]["content"]
    longest = 0
    for dataset.epoch in range(40):
        for row in (1, 2):
            pair = dataset[row]
            begun = pair.refusal.prompt_ids[len(pair.rejected.prompt_ids) :].tolist()
            assert begun == dataset.beginnings[row][: len(begun)]
            longest = max(longest, len(begun) / len(dataset.beginnings[row]))
    assert longest == 1  # what k is drawn from is far longer


def test_doors_beginnings_leave_room_for_the_refusal(tmp_path):
    """A GPT-2, which has no position past its context, whose longest pair just fits."""
    from transformers import GPT2Config, GPT2LMHeadModel

    question, answer = "question about the fox " * 4, "a brown answer " * 5
    frame = pairs_of(*((f"{question}{i}", answer[: 20 + 2 * i], f"no {answer[: 50 - i]}") for i in range(24)))
    context = 130  # scoring leaves a place for one more token
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(tmp_path / "model")
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=context,
        n_embd=32,
        n_layer=1,
        n_head=2,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=2,
    )
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    model = resolve(tmp_path / "model")
    scored = score(frame, model, params.ScoreParams(engine="transformers"), tmp_path / "store").scores
    tokens = pl.col("prompt_tokens") + pl.max_horizontal("chosen_tokens", "rejected_tokens")
    assert scored.select(tokens.max()).item() == context - 1
    weights = weigh(split(scored, params.SplitParams(match=[])), params.WeighParams())
    arm = ArmParams(objective="door")
    planned = plan(weights, model, SHORT, arm, "door", tmp_path / "run", tmp_path / "state")
    drawn = []
    for room in (context, 10**6):
        dataset = PairDataset(load_tokenizer(model), planned.pairs.training, Refusals(0, 100, room))
        refusals = [pair.refusal for pair in (dataset[row] for row in range(len(dataset))) if pair.refusal]
        drawn.append([len(sequence.prompt_ids) + len(sequence.response_ids) for sequence in refusals])
    assert drawn[0] == [min(length, context) for length in drawn[1]] and max(drawn[1]) > context
    metrics = train(weights, model, SHORT, arm, "door", tmp_path / "run", tmp_path / "state")
    assert math.isfinite(metrics["heldout"]["loss"])


def test_another_run_of_the_same_is_refused_before_anything_loads(weights, model, tmp_path):
    """Here in one process; tests/base/test_locks.py has it between two."""
    given = (weights, model, SHORT, ARMS["dpo"], "dpo", tmp_path / "run", tmp_path / "state")
    planned = plan(*given)
    with (
        checkpoints.alone(tmp_path / "state", planned.key),
        pytest.raises(OutputError, match="another process trains this very arm") as caught,
    ):
        train(*given)
    assert "goes on from there" in caught.value.details["remedy"] and not planned.checkpoints.exists()


def test_two_runs_at_once_do_not_share_a_folder(weights, model, tmp_path):
    """Of other settings: the one that ends last would replace the other."""

    def begin(arm, settings, name):
        train(weights, model, settings, ARMS[arm], arm, tmp_path / name, tmp_path / "state")

    class Ended(Exception):
        pass

    def meanwhile(*_):
        with pytest.raises(OutputError, match="another process trains into"):
            begin("bdpo", SHORT, "run")
        raise Ended

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Ended):
        patch.setattr("curate.training.train.build", meanwhile)
        begin("dpo", SHORT, "run")


def test_the_same_params_and_seed_give_the_same_bytes_and_another_seed_does_not(weights, model, tmp_path):
    metrics = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 0)):
        options = (tmp_path / name, tmp_path / "state", {}, seed)
        metrics[name] = train(weights, model, SHORT, ARMS["bdpo"], "bdpo", *options)
    for file in ("model/model.safetensors", "curve.csv", "metrics.json", "model/curate.json", "model/README.md"):
        one, same, other = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert one == same != other, file
    # Pairs of evaluations are the same for every seed.
    assert metrics["a"]["start"] == metrics["c"]["start"] and [metrics[name]["seed"] for name in "abc"] == [1, 1, 0]


def test_accumulation_is_a_larger_batch(weights, model, tmp_path):
    """8 pairs twice a step, against 16 at once: the same mean. 1e-5 is a thousandth of how far the weights go."""
    found = {}
    for name, batch, times in (("once", 16, 1), ("twice", 8, 2)):
        options = SHORT.model_copy(update={"batch_pairs": batch, "accumulation": times, "learning_rate": 1e-3})
        train(weights, model, options, ARMS["dpo"], "dpo", tmp_path / name, tmp_path / "state")
        found[name] = pl.read_csv(tmp_path / name / "curve.csv")
    once, twice = found["once"], found["twice"]
    assert once["step"].to_list() == twice["step"].to_list() and once["step"].max() == 3
    assert np.abs(once["loss"] - twice["loss"]).max() < 1e-5 < 0.01 < once["loss"].max() - once["loss"].min()


def test_each_pair_of_a_step_counts_the_same_however_it_is_cut(weights, model, tmp_path, monkeypatch):
    """17 pairs at once, as 16 + 1, as 8 + 8 + 1: one gradient, and in the next epoch again. A mean of means gives the
    last pair alone half of 16 + 1, and moves the gradient by a third of its norm."""
    pairs = pl.concat([weights.filter(pl.col("split") == "train").head(17), weights.filter(pl.col("split") != "train")])
    found = []

    def gradients(*_, model, **__):
        found.append(torch.cat([weight.grad.flatten() for weight in model.parameters()]))

    monkeypatch.setattr(ShowProgress, "on_pre_optimizer_step", gradients, raising=False)
    for batch, times in ((17, 1), (16, 2), (8, 3)):
        changes = {"batch_pairs": batch, "accumulation": times, "epochs": 2, "evaluations": 1, "learning_rate": 1e-6}
        options = SHORT.model_copy(update={**changes, "max_grad_norm": 1e9, "kl_prompts": 0, "check_pairs": 1})
        train(pairs, model, options, ARMS["bdpo"], "bdpo", tmp_path / f"{batch}", tmp_path / "state")
    once, cut = found[:2], (found[2:4], found[4:])
    for parts in cut:
        for expected, gradient in zip(once, parts, strict=True):
            assert (gradient - expected).norm() < 1e-4 * expected.norm()


def test_products_in_bfloat16_learn_what_float32_learns(weights, model, tmp_path):
    """Master weights in float32: the margins that a run ends with are the same, but for the rounding of products."""
    margins = []
    for dtype in ("float32", "bfloat16"):
        options = SHORT.model_copy(update={"dtype": dtype, "check_tolerance": 0.02, "learning_rate": 1e-3, "epochs": 2})
        folder = tmp_path / dtype
        metrics = train(weights, model, options, ARMS["dpo"], "dpo", folder / "run", folder / "state")
        margins.append(metrics["train"]["rewards/margins"])
    assert margins[0] > 0.05
    assert margins[1] == pytest.approx(margins[0], rel=0.1)


def test_every_objective_trains(weights, model, tmp_path):
    """One step each: finite numbers, weights that moved, and the objective's own; a gap where no pair was turned."""
    kinds = [f"{side}_{what}" for side in ("chosen", "rejected") for what in ("reward", "cost")]
    frame = weights.head(20).with_columns(
        pl.col(f"{kind.partition('_')[0]}_tokens").cast(float).alias(kind) for kind in kinds
    )
    once = SHORT.model_copy(update={"batch_pairs": 16, "evaluations": 1, "eval_pairs": 4, "check_pairs": 1})
    saved, base = {}, (model.path / "model.safetensors").read_bytes()
    for name in params.OBJECTIVES:
        arm = ArmParams(objective=name, settings={"lambda": 0.5} if name == "cdpo" else {})
        metrics = train(frame, model, once, arm, name, tmp_path / name, tmp_path / "state")
        assert metrics["objective"] == name and metrics["steps"] == 1
        assert all(math.isfinite(value) for value in metrics["heldout"].values())
        turned = metrics.get("swapped", 0) > 0
        assert turned == (name == "cdpo") and {gap is None for gap in metrics["overfitting"].values()} == {turned}
        saved[name] = (tmp_path / name / "model" / "model.safetensors").read_bytes()
    assert len({*saved.values(), base}) == len(saved) + 1


@pytest.mark.parametrize("name", ["nonsense", "tensorboard"])
def test_a_log_that_cannot_be_kept(name, weights, model, tmp_path):
    if importlib.util.find_spec(name):
        pytest.skip("it is installed")
    options = SHORT.model_copy(update={"report_to": [name]})
    with pytest.raises(UsageError, match="this logging integration is not installed") as caught:
        train(weights, model, options, ARMS["dpo"], "dpo", tmp_path / "run", tmp_path / "state")
    assert caught.value.details["field"] == "train.report_to" and not (tmp_path / "state").exists()


@pytest.mark.vllm
@pytest.mark.slow
def test_the_trained_folder_generates_in_transformers_and_in_vllm(
    vllm_engine, reference_model, sample_pairs, tmp_path, monkeypatch
):
    """From vLLM-scored references: ln 2 at step 0, and a folder that both libraries load."""
    from curate.scoring import score as scoring
    from curate.scoring import scorer
    from curate.scoring.engines.vllm import VllmEngine

    model = resolve(reference_model)
    monkeypatch.setattr(scorer, "open_engine", lambda *_: vllm_engine)
    monkeypatch.setattr(vllm_engine, "close", lambda: None)
    scored = scoring.score(
        sample_pairs.sample(120, seed=0), model, params.ScoreParams(engine="vllm"), tmp_path / "store"
    )
    weighted = weigh(scored.scores, params.WeighParams())
    metrics = train(weighted, model, SHORT, ARMS["dpo"], "dpo", tmp_path / "run", tmp_path / "state")
    assert metrics["start"]["loss"] == pytest.approx(math.log(2), abs=1e-3)

    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "run" / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "How do I bake bread?"}], add_generation_prompt=True, tokenize=False
    )
    inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
    with torch.no_grad():
        generated = AutoModelForCausalLM.from_pretrained(folder).generate(**inputs, max_new_tokens=12, do_sample=False)
    ours = generated[0, inputs["input_ids"].shape[1] :].tolist()
    import vllm

    engine = VllmEngine(resolve(folder), "float32")
    sampling = vllm.SamplingParams(max_tokens=12, temperature=0.0)
    (output,) = engine.engine.generate(
        [vllm.TokensPrompt(prompt_token_ids=inputs["input_ids"][0].tolist())], sampling, use_tqdm=False
    )
    theirs = list(output.outputs[0].token_ids)
    assert theirs[: len(ours)] == ours and len(ours) > 0
    assert json.loads(Path(folder / "config.json").read_text())["use_cache"] is True
