"""A few hundred damaged inputs: each is read or refused in one message. `python -m tests.fuzz` has the thousands."""

from fuzz.run import fuzz


def test_every_reader_reads_or_refuses():
    count = fuzz(300, seed=1)
    assert not count.faults
    assert sum(count.read.values()) > 30 and sum(count.refused.values()) > 100
