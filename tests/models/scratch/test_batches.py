"""Batches: every sequence once an epoch, targets shifted by one, nulls in their share."""

from itertools import islice

import numpy as np

from curate.models.scratch.batches import IGNORED, Reading, batches, windows


def readings(count=200):
    rng = np.random.default_rng(0)
    return [
        Reading(np.arange(100 + i, 100 + i + rng.integers(2, 30), dtype=np.int32), np.array([1, 2], dtype=np.int32))
        for i in range(count)
    ]


def test_windows_cover_the_ids_and_none_has_a_single_token():
    assert [w.tolist() for w in windows(range(10), 4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [w.tolist() for w in windows(range(9), 4)] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_an_epoch_reads_every_sequence_once_within_the_budget():
    texts = readings()
    seen = []
    for batch in batches(texts, 128, 0.0, seed=3):
        assert batch.input_ids.size <= 128
        for ids, targets in zip(batch.input_ids, batch.targets, strict=True):
            length = int((targets != IGNORED).sum()) + 1
            assert targets[: length - 1].tolist() == ids[1:length].tolist()
            assert (targets[length - 1 :] == IGNORED).all()
            seen.append(int(ids[0]))
        if len(seen) == len(texts):
            break
    assert sorted(seen) == list(range(100, 300))


def test_null_fraction_of_the_sequences_are_null_and_the_order_is_seeded():
    first = list(islice(batches(readings(2000), 256, 0.25, seed=3), 50))
    again = list(islice(batches(readings(2000), 256, 0.25, seed=3), 50))
    assert all((a.input_ids == b.input_ids).all() for a, b in zip(first, again, strict=True))
    everything = next(batches(readings(2000), 10**6, 0.25, seed=3))
    assert 0.2 < (everything.input_ids[:, 0] == 1).mean() < 0.3
