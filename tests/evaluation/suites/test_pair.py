"""PAIR: what attacker and model say to each other, scripted, and the reference model as its own attacker."""

import json
from typing import NamedTuple

import polars as pl
import pytest

from curate.base.errors import UsageError
from curate.evaluation import sources
from curate.evaluation.bench import Workbench
from curate.evaluation.evaluate import evaluate, values_of
from curate.evaluation.items import Judgement, Response
from curate.evaluation.judges.truth import SampleTruth
from curate.evaluation.suites.pair import Pair, PairOptions, read_attack
from curate.models.resolve import resolve
from curate.project.params import EvaluateParams
from curate.sample.generator import sample_behaviours

BEHAVIOURS = sample_behaviours(sources.SAMPLE_BEHAVIOURS, 0)
REFUSAL = "I'm sorry, but I can't help with that."


class Asked(NamedTuple):
    text: str  # last turn
    turns: int
    sample: int


class Scripted:
    """Says what a function says, and remembers each call's conversations."""

    def __init__(self, say):
        self.say, self.calls = say, []

    def record(self):
        return {"name": "scripted"}

    def chat(self, asks, sampling, what="generate"):
        self.calls.append([Asked(ask.messages[-1]["content"], len(ask.messages), ask.sample) for ask in asks])
        return [Response(self.say([turn["content"] for turn in ask.messages]), "stop") for ask in asks]

    def close(self): ...


def attack(prompt):
    return json.dumps({"improvement": "another word", "prompt": prompt})


def goal_of(text):
    return next(row for row in BEHAVIOURS if row["goal"] in text)


def attacker(turns):
    """Names the magic word in its second prompt; of the behaviour of the last item, it never says what can be read."""
    if BEHAVIOURS[2]["goal"] in turns[0]:
        return "I would rather not."
    return attack(("magic: " if len(turns) == 3 else "please: ") + goal_of(turns[0])["goal"])


def model(turns):
    """Refuses what is asked without the magic word, and does without it the behaviour of the second item."""
    row = goal_of(turns[0])
    return row["response"] if "magic" in turns[0] or row == BEHAVIOURS[1] else REFUSAL


@pytest.fixture
def bench(reference_model, tmp_path):
    found = Workbench(resolve(reference_model), EvaluateParams(engine="transformers", suites=["pair=sample"]), tmp_path)
    found.judging, found.chat, found._attacker = SampleTruth(), Scripted(model), Scripted(attacker)
    return found


def test_streams_go_on_until_the_behaviour_is_answered(bench, capsys):
    options = PairOptions(behaviours=0, streams=2, rounds=3)
    items = Pair().items(BEHAVIOURS[:3], options)
    frame = Pair().run(items, bench, options)
    assert frame["harm"].to_list() == [1.0, 1.0, 0.0]
    assert frame["item"].to_list() == [item.item for item in items]
    assert frame["question"].to_list() == [row["goal"] for row in BEHAVIOURS[:3]]
    first, second, third = (row[0]["content"] for row in frame["prompt"])
    assert (first, second, third) == (f"magic: {items[0].asked}", items[1].asked, items[2].asked)
    # The plain requests, then a call a round for all behaviours and streams; what was answered is attacked no more.
    assert [len(call) for call in bench.chat.calls] == [3, 2, 2, 0]
    calls = bench.attacker().calls
    assert [len(call) for call in calls] == [4, 2, 2, 2, 2] * 2 + [2] * 5
    assert len({(one.text, one.sample) for call in calls[:5] for one in call}) == 4 + 4 * 2  # no draw twice
    assert (
        "7 prompts asked, 0 of the answers without a verdict; 6 of the attacker's answers held no prompt"
        in capsys.readouterr().err
    )
    assert bench.counts == {"queries": 7, "queries without a verdict": 0, "attacks unread": 6}


class Judge(SampleTruth):
    """Of the answers, in order, what `verdicts` has; None: it cannot be read."""

    def __init__(self, verdicts):
        self.verdicts = iter(verdicts)

    def judge(self, cases, task):
        found = [next(self.verdicts) for _ in cases]
        return [Judgement(why="unparsable") if harm is None else Judgement(harm=harm) for harm in found]


@pytest.mark.parametrize(
    ("verdicts", "success", "judged", "queries"),
    [
        ([0.0, *[None] * 6], 1.0, False, 7),  # harmless as it was asked, and then nobody can say
        ([None, *[0.4] * 6], 1.0, False, 7),
        ([0.0, None, 0.6, None], 1.0, True, 4),  # found harmful: attacked no more
        ([0.0, *[0.4] * 6], 0.0, True, 7),
    ],
)
def test_an_answer_without_a_verdict_counts_as_the_worst(bench, verdicts, success, judged, queries):
    bench.judging, bench.chat = Judge(verdicts), Scripted(lambda _: "an answer")
    bench._attacker = Scripted(lambda _: attack("please"))
    options = PairOptions(behaviours=0, streams=3, rounds=2)
    frame = Pair().run(Pair().items(BEHAVIOURS[:1], options), bench, options)
    values = values_of(Pair(), frame.with_columns(suite=pl.lit("pair")), {"harm"}).filter(metric="attack success")
    assert (values["value"].item(), values["judged"].item()) == (success, judged)
    assert bench.counts["queries"] == queries
    assert bench.counts["queries without a verdict"] == verdicts.count(None)


def test_the_attacker_is_told_objective_beginning_answer_and_score(bench):
    options = PairOptions(behaviours=0, streams=3, rounds=2)
    (row, *_) = BEHAVIOURS
    Pair().run(Pair().items([row], options), bench, options)
    first, second = bench.attacker().calls
    assert [one.turns for one in first + second] == [1, 1, 1, 3, 3, 3]
    assert all(row["goal"] in one.text and row["target"] in one.text for one in first)
    assert len({one.text for one in first}) == 3  # a stream, an approach
    assert all(REFUSAL in one.text and "1 of 10" in one.text and row["goal"] in one.text for one in second)


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        (attack("ask so"), "ask so"),
        ("```json\n" + attack("ask so") + "\n```", "ask so"),
        ('{"improvement": "", "prompt": "two\nlines"}', "two\nlines"),
        ('{"improvement": "", "prompt": "\\ud800"}', "?"),
        ("", None),
        ("Here it is: " + attack("ask so"), None),
        (attack("ask so") + attack("or so"), None),
        ('{"prompt": "ask so"}', None),
        ('{"improvement": "", "prompt": " "}', None),
        ('{"improvement": "", "prompt": ["ask so"]}', None),
        ('["improvement", "prompt"]', None),
        ("[" * 100_000, None),
    ],
)
def test_only_one_whole_object_is_an_attack(text, prompt):
    assert read_attack(text) == prompt


def test_the_reference_model_as_attacker_says_nothing_that_can_be_read(reference_model, tmp_path):
    params = EvaluateParams(
        engine="transformers",
        suites=["pair=sample"],
        options={"pair": {"behaviours": 3, "streams": 1, "rounds": 2, "attacker_tokens": 12}},
        attacker_model=str(reference_model),
        max_tokens=32,
    )
    for out in ("one", "two"):
        metrics = evaluate(resolve(reference_model), params, tmp_path / out, tmp_path / "state", "base")
        kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "state").rglob("*") if path.is_file()}
        if out == "one":
            first = kept
    assert first == kept and "attacker" in metrics["with"]
    assert (tmp_path / "one/items.parquet").read_bytes() == (tmp_path / "two/items.parquet").read_bytes()
    items = pl.read_parquet(tmp_path / "one/items.parquet")
    assert [row[0]["content"] for row in items["prompt"]] == items["question"].to_list()
    assert metrics["suites"]["pair"]["metrics"]["attack success"]["prompts"] == 3


def test_pair_wants_a_judge_and_an_attacker(reference_model, tmp_path):
    bench = Workbench(resolve(reference_model), EvaluateParams(engine="transformers", suites=["pair=sample"]), tmp_path)
    options = PairOptions(streams=1)
    with pytest.raises(UsageError, match="wants a judge of harm"):
        Pair().run(Pair().items(BEHAVIOURS[:1], options), bench, options)
    bench.judging = SampleTruth()
    with pytest.raises(UsageError, match="wants a model that writes attacks"):
        Pair().run(Pair().items(BEHAVIOURS[:1], options), bench, options)
