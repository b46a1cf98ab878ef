"""A few kills; `python -m tests.faults` has the hundreds, over every command."""

from faults.kills import kills


def test_what_was_killed_ends_as_if_it_had_not_been(tmp_path):
    done = kills(3, tmp_path, seed=1, only=["prepare", "score", "split", "weigh"])
    assert not [kill for kill in done if kill.faults] and any(kill.killed for kill in done)
