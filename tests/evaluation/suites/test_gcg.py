"""GCG through nanogcg on the reference model: the target's loss really falls, and what was found is kept."""

from importlib import metadata

import polars as pl
import pytest
import torch
from tiny import little_memory, told_of_memory

from curate.base.errors import InputError
from curate.evaluation import sources
from curate.evaluation.bench import Workbench
from curate.evaluation.evaluate import values_of
from curate.evaluation.judges.truth import SampleTruth
from curate.evaluation.suites import gcg, gcg_search
from curate.evaluation.suites.gcg import GCG, GCGOptions, search
from curate.models.resolve import resolve
from curate.project.params import EvaluateParams

OPTIONS = GCGOptions(behaviours=2, steps=4, search_width=24, topk=32)


@pytest.fixture(scope="module")
def items():
    params = EvaluateParams(engine="transformers", suites=["gcg=sample"], options={"gcg": OPTIONS.model_dump()})
    (named,) = sources.parse(params)
    return sources.load(named, 0, 0).items


@pytest.fixture(scope="module")
def searcher(reference_model):
    found = gcg_search.Searcher(resolve(reference_model), "float32", 4, 24, 32, lambda _=1: None)
    yield found
    found.close()


def workbench(reference_model, state):
    bench = Workbench(resolve(reference_model), EvaluateParams(engine="transformers", suites=["gcg=sample"]), state)
    bench.judging = SampleTruth()
    return bench


def test_what_is_optimised_is_what_is_asked(searcher, items):
    goal, target = items[0].asked, items[0].target
    result = searcher._run(goal, target, 0)
    assert len(result.losses) == 4
    assert searcher._losses(goal, target, result.strings) == pytest.approx(result.losses, rel=1e-3)


def test_the_search_lowers_the_loss_and_is_the_same_again(searcher, items):
    found = [searcher.search(items[0].asked, items[0].target, seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] and found[0][0] != found[2][0]
    for suffix, first, last in found:
        assert last < first - 0.1 and suffix.startswith("\n") and suffix.isascii() and "<|" not in suffix


def test_candidates_that_do_not_fit_the_memory_are_tried_fewer_at_once(reference_model, items, monkeypatch, capsys):
    goal, target = items[0].asked, items[0].target
    one = gcg_search.Searcher(resolve(reference_model), "float32", 4, 24, 32, lambda _=1: None)
    expected = one.search(goal, target, 0)
    (sequence,) = one._sequences(goal, target, [gcg_search.INITIAL])
    asked = little_memory(monkeypatch, one.model, 8 * sequence.length)
    told_of_memory(capsys)
    found = one.search(goal, target, 0)
    assert found[0] == expected[0] and found[1:] == pytest.approx(expected[1:], rel=1e-5)
    assert sum(tokens > 8 * sequence.length for tokens in asked) <= 2  # not at every step again
    (line,) = told_of_memory(capsys)
    assert line.startswith("gcg: ") and "candidates of " in line
    del asked[:]
    one.search(items[1].asked, items[1].target, 0)
    assert max(asked) <= 8 * sequence.length and not told_of_memory(capsys)
    one.close()


@pytest.mark.parametrize("at", ["losses", "candidates", "gradient"])
def test_one_candidate_that_does_not_fit_the_memory_ends_the_search(searcher, items, at, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.16 GiB.\npages")

    if at == "losses":
        little_memory(monkeypatch, searcher.model, 1)
    else:
        called = "_compute_candidates_loss_original" if at == "candidates" else "compute_token_gradient"
        monkeypatch.setattr(f"nanogcg.gcg.GCG.{called}", full)
    with pytest.raises(InputError, match="does not fit the device's memory") as caught:
        searcher.search(items[0].asked, items[0].target, 0)
    assert caught.value.details["file"] == str(searcher.path) and "suite gcg" in caught.value.details["remedy"]


def test_suffixes_are_kept_as_they_are_found(reference_model, items, tmp_path, monkeypatch):
    """A run that was killed after the first behaviour goes on with the second; a third run searches nothing."""
    bench = workbench(reference_model, tmp_path)
    searched = []
    inner = gcg_search.Searcher.search

    def counted(self, goal, target, seed):
        if goal == items[1].asked and not searched[1:]:
            searched.append("killed")
            raise KeyboardInterrupt
        searched.append(goal)
        return inner(self, goal, target, seed)

    monkeypatch.setattr(gcg_search.Searcher, "search", counted)
    with pytest.raises(KeyboardInterrupt):
        search(items, bench, OPTIONS)
    found = search(items, bench, OPTIONS)
    assert searched == [items[0].asked, "killed", items[1].asked]
    assert search(items, bench, OPTIONS) == found and len(searched) == 3
    assert search(items, bench, OPTIONS.model_copy(update={"behaviours": 9})) == found and len(searched) == 3
    frame = GCG().run(items, bench, OPTIONS)
    assert frame["item"].to_list() == [item.item for item in items]
    assert frame["question"].to_list() == [item.asked for item in items]
    asked = [row[0]["content"] for row in frame["prompt"]]
    assert asked == [item.asked + one.suffix for item, one in zip(items, found, strict=True)]
    assert frame.select(pl.col("harm").is_not_null() | pl.col("unjudged").is_not_null()).to_series().all()
    assert len(searched) == 3
    bench.close()


def test_a_request_that_does_not_fit_is_a_counted_failure(searcher, reference_model, items, tmp_path):
    assert searcher.search("how " * 600, "Sure", 0) is None
    bench = workbench(reference_model, tmp_path)
    long = items[0]._replace(item="long", prompt=[{"role": "user", "content": "how " * 600}])
    frame = GCG().run([long, items[1]], bench, OPTIONS)
    assert frame["unjudged"].to_list()[0] == "no room in the context" and frame["finish"][0] == "too_long"
    assert frame["response"][1] and bench.counts == {"no room for a suffix": 1}
    values = values_of(GCG(), frame.with_columns(suite=pl.lit("gcg")), {"harm"}).filter(metric="attack success")
    assert values.filter(item="long").select("value", "judged").row(0) == (1.0, False)
    bench.close()


def test_without_nanogcg_the_error_says_how_to_install_it(reference_model, items, tmp_path, monkeypatch):
    bench = workbench(reference_model, tmp_path)

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(gcg.metadata, "version", missing)
    with pytest.raises(InputError, match="needs nanogcg") as caught:
        GCG().run(items, bench, OPTIONS)
    assert "pip install --no-deps nanogcg==0.3.0" in caught.value.details["remedy"]
