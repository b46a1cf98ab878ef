"""Passes that do not fit the memory are halved, and what they are of comes out whole, in order and once."""

import weakref
from pathlib import Path

import pytest
import torch

from curate.base import memory
from curate.base.errors import InputError
from curate.models.faults import fitting
from curate.scoring.budget import Budget

CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.16 GiB.\npages")
CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
)


def budget(tokens: int = 1000) -> Budget:
    return Budget(tokens, "try", Path("folder"), "take a smaller one")


def holding(rows: int, error: RuntimeError):
    """What a memory of so many rows makes of them: minus each."""

    def run(batch: list[int]) -> list[int]:
        if len(batch) > rows:
            raise error
        return [-row for row in batch]

    return run


@pytest.mark.parametrize("error", [CUDA, CPU])
def test_a_batch_that_does_not_fit_is_halved_until_it_does(error, capsys):
    one = budget()
    passes = list(one.of_one_length([10] * 40 + [5] * 12, holding(11, error), "texts"))
    assert [number for rows, out in passes for number in out] == [-number for number in range(52)]
    assert [len(rows) for rows, _ in passes] == [10, 10, 10, 10, 6, 6]
    assert capsys.readouterr().err.splitlines() == [
        "try: 40 texts of 10 tokens at once do not fit the device's memory; it goes on with 10",
        "try: 12 texts of 5 tokens at once do not fit the device's memory; it goes on with 6",
    ]


def test_what_fitted_is_the_budget_from_then_on(capsys):
    """In tokens: of texts half as long twice as many fit, and nothing more is said."""
    one = budget()

    def run(rows: list[int]) -> int:
        if 10 * len(rows) > 130:
            raise CUDA
        return len(rows)

    assert [out for _, out in one.of_one_length([10] * 50, run, "texts")] == [12, 12, 12, 12, 2]
    assert one.tokens == 120 and one.rows(5) == 24 and one.rows(500) == 1
    assert [out for _, out in one.of_one_length([10] * 13, run, "texts")] == [12, 1]
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_one_alone_that_does_not_fit_is_an_error_that_says_what_was_tried():
    with pytest.raises(InputError, match="a batch does not fit the device's memory") as caught:
        list(budget().of_one_length([7] * 5, holding(0, CUDA), "texts"))
    assert caught.value.details == {
        "file": "folder",
        "found": "texts of 7 tokens at once: tried 5, 2, 1; CUDA out of memory. Tried to allocate 1.16 GiB.",
        "remedy": "take a smaller one",
    }
    assert caught.value.what == "a batch does not fit the device's memory"


def test_any_other_error_stays_what_it_is():
    with pytest.raises(RuntimeError, match="shapes"):
        list(budget().of_one_length([7] * 5, holding(0, RuntimeError("shapes")), "texts"))


def test_what_did_not_fit_is_let_go_before_the_next_try(monkeypatch):
    """An error that is being handled holds the frames, and with them the tensors of the pass."""
    held: list[weakref.ref] = []
    seen: list[object] = []

    def run(size: int) -> int:
        activations = torch.zeros(size)
        held.append(weakref.ref(activations))
        if size > 2:
            raise torch.OutOfMemoryError("no room")
        return size

    monkeypatch.setattr(memory, "give_back", lambda: seen.append(held[-1]()))
    assert budget().fit(run, 8, "tokens") == 2 and seen == [None, None]
    assert budget().fit(run, 2, "tokens") == 2 and seen == [None, None]


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        str(CPU),
    ],
)
def test_memory_runs_out_in_other_words_too(said):
    """What a GPU's libraries take for themselves torch asks for without its allocator."""
    assert [out for _, out in budget().of_one_length([10] * 4, holding(2, RuntimeError(said)), "texts")] == [
        [0, -1],
        [-2, -3],
    ]


def test_what_is_told_of_memory_is_told_once():
    """An error of ours quotes torch's words, and is not another pass that did not fit."""
    with pytest.raises(InputError, match="a batch does not fit") as caught, fitting("elsewhere", "a step"):
        list(budget().of_one_length([7] * 4, holding(0, CPU), "texts"))
    assert "tried 4, 2, 1" in caught.value.details["found"] and caught.value.details["file"] == "folder"
