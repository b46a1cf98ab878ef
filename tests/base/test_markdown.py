"""Foreign text stays text in a card."""

from curate.base.markdown import code, fenced, plain

HOSTILE = "a`b|c\nd <script>x</script> [l](http://e) \x1b[31m"


def test_nothing_of_it_is_markup():
    for shown in (plain(HOSTILE), code(HOSTILE)):
        assert "\n" not in shown and "<script" not in shown and "\x1b" not in shown
    assert code(HOSTILE).count("`") == 2 and "|" not in code(HOSTILE)
    assert "](" not in plain(HOSTILE).replace("\\]\\(", "") and "\\|" in plain(HOSTILE)
    assert len(plain("x" * 10_000)) < 300


def test_a_fence_is_longer_than_any_in_the_text():
    assert fenced("a\n````\nb", "yaml") == "`````yaml\na\n````\nb\n`````"
