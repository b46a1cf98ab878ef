"""What an error says."""

import pytest

from curate.base.errors import first_line


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("one\ntwo", "one"),
        ("\nX requires the library\nfoo", "X requires the library"),
        ("Error(s) in loading:\n\tsize mismatch for a\n\tfor b", "Error(s) in loading: size mismatch for a"),
        (" \n", "ValueError"),
    ],
)
def test_a_library_s_first_words_may_stand_below_an_empty_line(message, said):
    assert first_line(ValueError(message)) == said
