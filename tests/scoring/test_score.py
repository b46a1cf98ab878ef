"""Scoring end to end, with the real engines on the embedded model."""

import hashlib
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tiny import CHATML, byte_tokenizer, many, pairs, save_model

from curate.base import files, shards
from curate.base.errors import InputError, OutputError
from curate.models import rendering
from curate.models.load import load_model
from curate.models.rendering import TokenSequence
from curate.models.resolve import resolve
from curate.pairs import heldout, identity
from curate.pairs.artefact import read_artefact
from curate.pairs.schema import SCORES
from curate.project import params
from curate.scoring import chunks, local, scorer
from curate.scoring import score as scoring
from curate.scoring import store as stores
from curate.scoring.engines import version
from curate.scoring.engines.transformers import TransformersEngine
from curate.scoring.null_prompts import Rendered, null_prompts
from curate.scoring.score import score
from curate.scoring.store import Store
from curate.selection.subsets import split
from curate.selection.weights import weigh

FAST = params.ScoreParams(engine="transformers")


@pytest.fixture(scope="module")
def random_model(tmp_path_factory):
    return resolve(save_model(tmp_path_factory.mktemp("random")))


@pytest.mark.vllm
def test_the_two_engines_agree(vllm_engine, reference_model, sample_pairs):
    """Within 1e-3 nats a token, float32, on the embedded model; measured here it is about 1e-6."""
    model = resolve(reference_model)
    frame = sample_pairs.head(60)
    store_of = {}
    for engine in ("vllm", "transformers"):
        chosen = rendering.render_pairs(rendering.load_tokenizer(model), frame)
        sequences = [
            TokenSequence(np.array(row["prompt_ids"], dtype=np.int32), np.array(row[f"{side}_ids"], dtype=np.int32))
            for row in chosen.rows(named=True)
            for side in ("chosen", "rejected")
        ]
        opened = vllm_engine if engine == "vllm" else TransformersEngine(model, "float32")
        tokens = np.array([len(s.response_ids) for s in sequences])
        store_of[engine] = opened.logps(sequences) / tokens
    difference = np.abs(store_of["vllm"] - store_of["transformers"])
    assert difference.max() < 1e-3
    assert store_of["vllm"].max() < 0


def test_score_json_says_what_the_template_does_by_itself(tmp_path, capsys):
    folder = save_model(tmp_path / "model")
    own = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nI am a fox<|im_end|>\n{% endif %}"
    byte_tokenizer(own + "{{ strftime_now('%d %B') }}" + CHATML).save_pretrained(folder)
    result = score(pairs(("a", "brown", "fox")), resolve(folder), FAST, tmp_path / "store")
    assert result.summary["template"] == result.provenance["template"]
    told = result.summary["template"]
    assert told["end_of_turn"] == "<|im_end|>" and told["date"] == "2024-07-26" and told["thought"] is None
    assert "I am a fox" in told["system_turn"] and "26 July" in told["system_turn"]
    assert "a system turn of its own" in capsys.readouterr().err


def test_a_score_is_the_sum_of_the_response_tokens_log_softmax(random_model, tmp_path):
    """One pair against a forward pass without batching, padding or any code of ours."""
    frame = pairs(("the quick", "brown fox", "fox"), ("a much longer question than that", "no", "yes and no"))
    got = score(frame, random_model, FAST, tmp_path).scores
    tokenizer = rendering.load_tokenizer(random_model)
    policy = load_model(random_model, "float32").eval()

    def by_hand(prompt, response):
        text = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        before = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids = before + tokenizer(response + "<|im_end|>", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logps = policy(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        return sum(logps[i - 1, ids[i]].item() for i in range(len(before), len(ids))), len(ids) - len(before)

    for row, prompt, chosen in zip(
        got.rows(named=True), ("the quick", "a much longer question than that"), ("brown fox", "no"), strict=True
    ):
        ref, tokens = by_hand(prompt, chosen)
        null, _ = by_hand("", chosen)
        assert row["chosen_tokens"] == tokens
        assert row["ref_chosen_logps"] == pytest.approx(ref, abs=1e-4)
        assert row["null_chosen_logps"] == pytest.approx(null, abs=1e-4)
        assert row["chosen_pmi"] == pytest.approx((ref - null) / tokens, abs=1e-5)
        assert row["pmi_gap"] == pytest.approx(row["chosen_pmi"] - row["rejected_pmi"])


def test_scores_have_the_schema_and_what_is_held_is_not_computed_again(random_model, tmp_path, monkeypatch):
    frame = many(40)
    first = score(frame, random_model, FAST, tmp_path)
    assert list(first.scores.schema.items())[-len(SCORES) :] == [(n, t) for n, t in pl.Schema(SCORES).items()]
    calls = []
    monkeypatch.setattr(scorer, "open_engine", lambda *_: calls.append(1))
    assert score(frame, random_model, FAST, tmp_path).scores.equals(first.scores)
    assert not calls


def test_what_was_made_of_other_scores_goes_with_them(random_model, tmp_path):
    first = score(many(40), random_model, FAST, tmp_path).scores
    weighed = weigh(split(first, params.SplitParams(match=[])), params.WeighParams())
    again = score(weighed, random_model, FAST.model_copy(update={"null_prompt": "bos"}), tmp_path).scores
    assert again.columns == first.columns and not again["pmi_gap"].equals(first["pmi_gap"])


def test_added_pairs_alone_are_computed(random_model, tmp_path, monkeypatch):
    score(many(40), random_model, FAST, tmp_path)
    scored = []
    open_engine = scorer.open_engine

    def watched(*arguments):
        engine = open_engine(*arguments)
        logps = engine.logps
        engine.logps = lambda sequences: scored.extend(sequences) or logps(sequences)
        return engine

    monkeypatch.setattr(scorer, "open_engine", watched)
    score(many(42), random_model, FAST, tmp_path)
    assert 0 < len(scored) <= 2 * 4  # two pairs, four numbers each


def test_batches_do_not_change_the_numbers(random_model, tmp_path, monkeypatch):
    whole = score(many(60), random_model, FAST, tmp_path / "a").scores
    monkeypatch.setitem(scorer.BATCH_TOKENS, "cpu", 500)
    cut = score(many(60).reverse(), random_model, FAST, tmp_path / "b").scores.sort("source_row")
    for column in ("ref_chosen_logps", "null_rejected_logps"):
        difference = (whole[column] - cut[column]).abs() / whole["chosen_tokens"]
        assert difference.max() < 1e-5


def test_chunks_do_not_change_the_numbers(random_model, tmp_path, monkeypatch):
    """Chunk after chunk from one file to another is what all pairs at once give, rows, order and metadata."""
    frame = many(60)
    whole = score(frame, random_model, FAST, tmp_path / "a")
    monkeypatch.setattr(chunks, "CHUNK_PAIRS", 7)
    files.write_parquet(frame, tmp_path / "pairs.parquet", {})
    out = tmp_path / "scores.parquet"
    result = scoring.score_file(tmp_path / "pairs.parquet", random_model, FAST, tmp_path / "b", out)
    written = read_artefact(out, "scores")
    assert files.read_provenance(out) == result.provenance == whole.provenance
    assert written.drop(SCORES).equals(whole.scores.drop(SCORES))
    for column in SCORES:
        assert (written[column] - whole.scores[column]).abs().max() < 1e-4
    assert result.summary["query_types"]["unsafe"]["pairs"] == 60
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_fault_in_the_last_pair_is_found_before_the_model_is_loaded(random_model, tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_PAIRS", 4)
    monkeypatch.setattr(scorer, "open_engine", lambda *_: pytest.fail("the model was loaded"))
    frame = pl.concat([many(10), pairs(("why", "the fox " * 300, "no"))])
    with pytest.raises(InputError, match="1 of 11 pairs are longer"):
        score(frame, random_model, FAST, tmp_path)


def test_a_store_that_cannot_be_written_is_found_before_the_model_is_loaded(random_model, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(scorer, "open_engine", lambda *_: pytest.fail("the model was loaded"))
    for root in (tmp_path / "file", Path("/proc/none")):
        with pytest.raises(OutputError):
            score(many(5), random_model, FAST, root)


def test_too_long_stops_with_the_pair_named_or_sets_it_aside(random_model, tmp_path):
    frame = pl.concat([many(10), pairs(("why", "the fox " * 300, "no"))])
    with pytest.raises(InputError, match="1 of 11 pairs are longer") as caught:
        score(frame, random_model, FAST, tmp_path)
    assert frame["pair_id"][10] in caught.value.details["field"] and caught.value.exit_code == 1
    result = score(frame, random_model, FAST.model_copy(update={"too_long": "reject"}), tmp_path)
    assert result.scores.height == 10 and result.rejects.height == 1
    assert result.rejects["rule"][0] == "too_long" and "limit is 255" in result.rejects["reason"][0]
    assert result.summary["pairs"] + result.summary["rejected"] == frame.height


def test_of_a_file_it_says_how_many_pairs_it_sets_aside_and_why(random_model, tmp_path, capsys):
    frame = pl.concat([many(10), pairs(("why", "the fox " * 300, "no"))])
    files.write_parquet(frame, tmp_path / "pairs.parquet", {})
    options = FAST.model_copy(update={"too_long": "reject"})
    scoring.score_file(tmp_path / "pairs.parquet", random_model, options, tmp_path, tmp_path / "scores.parquet")
    assert "score: 1 of 11 pairs set aside (too_long 1)\n" in capsys.readouterr().err


@pytest.mark.vllm
def test_vllm_takes_a_sequence_as_long_as_the_limit(vllm_engine, reference_model):
    model = resolve(reference_model)
    ids = np.arange(model.context - 1, dtype=np.int32) % 250 + 10
    sequence = TokenSequence(ids[:20], ids[20:])
    expected = TransformersEngine(model, "float32").logps([sequence])
    assert vllm_engine.logps([sequence]) == pytest.approx(expected, rel=1e-4)


def test_a_pair_that_cannot_be_rendered_stops_or_is_set_aside(random_model, tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_PAIRS", 4)
    frame = pl.concat([many(9), pairs(("why", "the same", "the same")), many(11).tail(1)])
    with pytest.raises(InputError, match="both responses are the same tokens") as caught:
        score(frame, random_model, FAST, tmp_path)
    assert frame["pair_id"][9] in caught.value.details["field"]
    result = score(frame, random_model, FAST.model_copy(update={"unrenderable": "reject"}), tmp_path)
    assert result.scores["pair_id"].equals(frame["pair_id"].filter(frame["pair_id"] != frame["pair_id"][9]))
    assert result.rejects.select("rule", "reason").row(0) == ("unrenderable", "both responses are the same tokens")
    with pytest.raises(InputError, match="no pair is left to score") as caught:
        score(frame[9:10], random_model, FAST.model_copy(update={"unrenderable": "reject"}), tmp_path)
    assert caught.value.details["found"] == "0 too long, 1 that cannot be rendered"
    assert "unrenderable" in caught.value.details["remedy"] and "longer" not in caught.value.details["remedy"]
    whole = score(many(9), random_model, FAST, tmp_path / "other").scores
    assert (whole["pmi_gap"] - result.scores["pmi_gap"].head(9)).abs().max() < 1e-5


def test_contrastive_null_is_the_log_of_a_mean_over_other_prompts(random_model, tmp_path):
    frame = many(12)
    options = FAST.model_copy(update={"null_prompt": "contrastive", "contrastive_prompts": 3})
    got = score(frame, random_model, options, tmp_path).scores
    rendered = rendering.render_pairs(rendering.load_tokenizer(random_model), frame)
    chunk = Rendered.of(rendered)
    contexts = null_prompts(None, options, 255, lambda: [(frame, chunk)]).of(frame, chunk)
    engine = TransformersEngine(random_model, "float32")
    for row in (0, 7):
        mine = contexts[row]
        assert len({tuple(context) for context in mine}) == 3
        assert rendered["prompt_ids"][row].to_list() not in [context.tolist() for context in mine]
        response = np.array(rendered["chosen_ids"][row].to_list(), dtype=np.int32)
        logps = engine.logps([TokenSequence(context, response) for context in mine])
        mean = math.log(sum(math.exp(x - logps.max()) for x in logps) / 3) + logps.max()
        assert got["null_chosen_logps"][row] == pytest.approx(mean, abs=1e-4)


def test_a_long_prompt_costs_no_other_pair_its_place(random_model, tmp_path):
    frame = pl.concat([many(8), pairs(("the fox " * 100, "yes", "no"))])
    options = FAST.model_copy(update={"null_prompt": "contrastive", "contrastive_prompts": 3, "too_long": "reject"})
    result = score(frame, random_model, options, tmp_path)
    assert result.scores["pair_id"].head(8).equals(frame["pair_id"].head(8))


def own_and_others(frame, rendered, others):
    """The own prompt, and the first K of the pool that are not it; the pool is of training prompts."""
    prompts = dict(zip(frame["prompt_key"], rendered["prompt_ids"].to_list(), strict=True))
    training = frame.filter(split="train")["prompt_key"]
    name = "contrastive null prompts|0|"
    ranked = sorted(training, key=lambda key: hashlib.sha256((name + key).encode()).digest())[: others + 1]
    return [[prompts[own], *[prompts[key] for key in ranked if key != own][:others]] for own in frame["prompt_key"]]


def test_what_the_store_holds_of_null_prompts_is_combined(random_model, tmp_path, monkeypatch):
    """The store goes by tokens: log p(y|x), and log p(y|x_k) of the K others, whatever else they were stored for."""
    frame = many(9)
    options = FAST.model_copy(update={"null_prompt": "contrastive", "contrastive_prompts": 3})
    rendered = rendering.render_pairs(rendering.load_tokenizer(random_model), frame)
    stored = Store(tmp_path, random_model, "float32", version(FAST, random_model))

    def key(prompt, row):
        response = rendered["chosen_ids" if row % 2 else "rejected_ids"][row // 2].to_list()
        return stored.key(TokenSequence(*(np.array(ids, dtype=np.int32) for ids in (prompt, response))))

    def made_up(key):
        return -1 - key[0] / 10

    contexts = own_and_others(frame, rendered, 3)
    asked = {
        key(prompt, 2 * row + side) for row, prompts in enumerate(contexts) for prompt in prompts for side in (0, 1)
    }
    stored.add(list(asked), np.array([made_up(one) for one in asked]))
    monkeypatch.setattr(scorer, "open_engine", lambda *_: pytest.fail("something was scored again"))
    result = score(frame, random_model, options, tmp_path)
    for row in range(frame.height):
        own, *others = [made_up(key(prompt, 2 * row + 1)) for prompt in contexts[row]]
        assert len(others) == 3 and result.scores["ref_chosen_logps"][row] == own
        mean = math.log(sum(map(math.exp, others)) / 3)
        assert result.scores["null_chosen_logps"][row] == pytest.approx(mean, abs=1e-12)
    assert result.provenance["contrastive"] == {"mean_over": "other training prompts", "prompts": {"unsafe": 3}}
    assert result.summary["contrastive"] == result.provenance["contrastive"]


def test_few_other_prompts_are_all_taken_and_recorded_and_none_is_an_error(random_model, tmp_path, capsys):
    """Two spellings and two system turns of one question are no other prompts."""
    options = FAST.model_copy(update={"null_prompt": "contrastive", "contrastive_prompts": 4})
    frame = pl.concat([many(3), pairs(("what is it", "yes", "no"), ("which one", "yes", "no"), query_type="safe")])
    told = [{"role": "system", "content": "be brief"}, *frame["prompt"][0].to_list()]
    again = many(1).with_columns(
        pair_id=pl.lit("again"),
        prompt=pl.Series([told], dtype=frame.schema["prompt"]),
        prompt_key=pl.lit(identity.prompt_key(told)),
    )
    frame = frame.with_columns(prompt_key=frame["prompt"].map_elements(identity.prompt_key, return_dtype=pl.String))
    result = score(pl.concat([frame, again]), random_model, options, tmp_path)
    assert result.provenance["contrastive"]["prompts"] == {"unsafe": 2, "safe": 1}
    assert (
        "unsafe queries have 3 distinct training prompts that fit, so the contrastive mean is over 2"
        in capsys.readouterr().err
    )
    assert result.scores.select(pl.col("pmi_gap").is_finite().all()).item()
    for alone in (many(1), pl.concat([frame.head(1), again]), pl.concat([many(5), frame.tail(1)])):
        with pytest.raises(InputError, match="no other prompt to compare with"):
            score(alone, random_model, options, tmp_path)


def test_no_heldout_prompt_stands_for_null(random_model, tmp_path):
    """Every seed, with the held-out draw's own among them; and held-out pairs move no training pair's gap."""
    frame = many(60)
    frame = frame.with_columns(prompt_key=frame["prompt"].map_elements(identity.prompt_key, return_dtype=pl.String))
    frame = frame.with_columns(split=heldout.draw(frame, 0.2, 0))
    chunk = Rendered.of(rendering.render_pairs(rendering.load_tokenizer(random_model), frame))
    training = set(frame.filter(split="train")["prompt_key"])
    for seed in range(5):
        options = FAST.model_copy(update={"null_prompt": "contrastive", "contrastive_seed": seed})
        (pool,) = null_prompts(None, options, 255, lambda: [(frame, chunk)]).pools.values()
        assert len(pool) == 5 and pool.keys() <= training
    options = FAST.model_copy(update={"null_prompt": "contrastive"})
    whole = score(frame, random_model, options, tmp_path).scores.filter(split="train")
    alone = score(frame.filter(split="train"), random_model, options, tmp_path).scores
    assert whole["pmi_gap"].equals(alone["pmi_gap"])


def test_the_draw_of_null_prompts_is_no_other_draw_again(random_model):
    """Which prompts are held out says nothing of which are drawn: with one hash all 20 would be the next 20 of it."""
    frame = many(500).with_columns(split=pl.lit("train"))
    chunk = Rendered.of(rendering.render_pairs(rendering.load_tokenizer(random_model), frame))
    options = params.ScoreParams(null_prompt="contrastive", contrastive_prompts=19)
    (pool,) = null_prompts(None, options, 255, lambda: [(frame, chunk)]).pools.values()
    rank = dict(zip(frame["prompt_key"], identity.draw_order(frame["prompt_key"], 0), strict=True))
    first = sorted(rank, key=rank.__getitem__)[:100]  # what a held-out fifth is
    assert 0 < len(pool.keys() & set(first)) < 12  # of 20 expected 4, standard deviation 1.8


def test_a_query_type_whose_pairs_are_all_too_long_needs_no_other_prompt(random_model, tmp_path):
    options = FAST.model_copy(update={"null_prompt": "contrastive", "contrastive_prompts": 2, "too_long": "reject"})
    long = pairs(("the quick brown fox " * 300, "yes", "no"), query_type="safe")
    result = score(pl.concat([many(4), long]), random_model, options, tmp_path)
    assert result.scores.height == 4 and result.rejects["rule"].to_list() == ["too_long"]
    assert result.provenance["contrastive"]["prompts"] == {"unsafe": 2}
    plain = score(many(4), random_model, options, tmp_path)
    assert plain.scores["null_chosen_logps"].equals(result.scores["null_chosen_logps"])
    with pytest.raises(InputError, match="1 of 5 pairs are longer"):
        score(pl.concat([many(4), long]), random_model, options.model_copy(update={"too_long": "error"}), tmp_path)


def test_a_model_that_gives_no_number_is_refused(random_model, tmp_path, monkeypatch):
    class Broken:
        def __init__(self, *_): ...

        def logps(self, sequences):
            return np.full(len(sequences), np.nan)

        def close(self): ...

    monkeypatch.setattr(scorer, "open_engine", Broken)
    with pytest.raises(InputError, match="no finite number"):
        score(many(5), random_model, FAST, tmp_path)
    assert Store(tmp_path, random_model, "float32", version(FAST, random_model)).rows() == 0


def test_an_engine_that_is_not_installed_says_what_to_install(random_model, monkeypatch):
    from importlib import metadata

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(InputError, match="not installed") as caught:
        version(params.ScoreParams(engine="vllm"), random_model)
    assert "--engine transformers" in caught.value.details["remedy"]


@pytest.mark.parametrize("chunk", [3000, 700])
def test_neither_chunks_nor_the_order_of_rows_change_the_contrastive_pools(chunk):
    """Few short prompts among many long ones, two spellings of one: the same pools, however they come."""
    frame = pairs(*((f"question {i} " + "the fox " * (60 if i % 200 else 1), "yes", f"no {i}") for i in range(3000)))
    draw = np.random.default_rng(0)
    prompts = [np.full(300 if i % 200 else 5, i, dtype=np.int32) for i in range(3000)]
    answers = [np.zeros(100, dtype=np.int32)] * 3000
    frame = frame.with_columns(
        prompt_key=pl.when(pl.col("source_row") == 400).then(pl.col("prompt_key").get(200)).otherwise("prompt_key")
    )
    options = params.ScoreParams(null_prompt="contrastive", contrastive_prompts=6)

    def pools(order):
        rows = [(frame[int(i)], prompts[i], answers[i]) for i in order]

        def chunks():
            for first in range(0, len(rows), chunk):
                part = rows[first : first + chunk]
                yield pl.concat([row for row, _, _ in part]), Rendered(*([row[k] for row in part] for k in (1, 2, 2)))

        found = null_prompts(None, options, 400 if chunk else 0, chunks).pools
        return {kind: {key: ids.tolist() for key, ids in pool.items()} for kind, pool in found.items()}

    first = pools(range(3000))
    assert len(first["unsafe"]) == 7
    assert pools(draw.permutation(3000)) == first


def test_a_full_temporary_folder_is_named(random_model, tmp_path, monkeypatch):
    monkeypatch.setattr(local.tempfile, "TemporaryFile", lambda **_: open("/dev/full", "wb", buffering=0))  # noqa: PTH123, SIM115
    with pytest.raises(OutputError, match="rendered pairs to the temporary folder") as caught:
        score(many(5), random_model, FAST, tmp_path)
    assert "TMPDIR" in caught.value.details["remedy"]


def test_a_store_that_cannot_be_written_stops_no_run_that_needs_it_not(random_model, tmp_path, monkeypatch, capsys):
    frame = many(20)
    first = score(frame, random_model, FAST, tmp_path)
    monkeypatch.setattr(shards, "MERGE_SHARDS", 1)

    def full(*_):
        raise OutputError("cannot write the output", found="No space left on device")

    monkeypatch.setattr(stores.Store, "merge", full)
    assert score(frame, random_model, FAST, tmp_path).scores.equals(first.scores)
    assert "left as they are: No space left" in capsys.readouterr().err


def test_brackets_in_a_path_are_a_name_and_no_pattern(random_model, tmp_path):
    folder = tmp_path / "run[1]"
    files.write_parquet(many(8), folder / "pairs[2].parquet", {})
    source, out = folder / "pairs[2].parquet", folder / "s[4].parquet"
    result = scoring.score_file(source, random_model, FAST, tmp_path / "s[3]", out)
    assert result.summary["pairs"] == read_artefact(out, "scores").height == 8


@pytest.mark.parametrize("other", [many(8).tail(4), many(8), None])
def test_a_file_of_pairs_that_is_replaced_meanwhile_stops_the_run(random_model, tmp_path, monkeypatch, other):
    """With as many pairs, with more, or taken away: no score stands beside another pair's text."""
    path, check = tmp_path / "pairs.parquet", local.check_lengths
    files.write_parquet(many(8).head(4), path, {})

    def meanwhile(*arguments):
        found = check(*arguments)
        path.unlink()
        if other is not None:
            files.write_parquet(other, path, {})
        return found

    monkeypatch.setattr(local, "check_lengths", meanwhile)
    with pytest.raises(InputError, match="the pairs changed while they were scored") as caught:
        scoring.score_file(path, random_model, FAST, tmp_path / "store", tmp_path / "scores.parquet")
    assert caught.value.details["file"] == str(path) and not (tmp_path / "scores.parquet").exists()


def test_no_pair_to_score_is_said(random_model, tmp_path):
    files.write_parquet(many(3).head(0), tmp_path / "pairs.parquet", {})
    with pytest.raises(InputError, match="there is no pair to score"):
        scoring.score_file(tmp_path / "pairs.parquet", random_model, FAST, tmp_path / "s", tmp_path / "out.parquet")
