"""Values that no schema has, anywhere in a row of each format: a pair or a refusal, never another exception."""

import datetime
import random
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest

from curate.base.errors import CurateError
from curate.pairs.sources import FORMATS
from curate.pairs.sources.choosing import choose
from curate.pairs.sources.mapping import mapped
from curate.pairs.sources.parsing import parse
from curate.pairs.sources.reading import Source
from tests.pairs.sources.test_formats import EXAMPLES

ODD = [
    *(None, "", 0, 1, -1, True, 1.5, float("nan"), float("inf"), 10**400, Decimal("1.5"), Decimal("sNaN"), b"x"),
    *([], {}, [None], [[]], [{}], "x", " ", "\ud800", datetime.date(2020, 1, 1), ["a", 1], {"messages": None}),
    *({"role": "user"}, [{"role": "user", "content": "x"}], [{"role": "assistant", "content": ["x", None]}]),
    *({"from": [1], "value": {}}, [{"role": {}, "content": "x"}]),
    [{"role": "user", "content": [{"type": ["text"], "text": "x"}]}],
]
MAPPED = mapped({"prompt": "prompt.0", "chosen": "chosen.0.content", "rejected": "rejected"})


def mutated(value: Any, rng: random.Random, depth: int = 0) -> Any:
    if rng.random() < 0.3 or depth > 4 or not isinstance(value, dict | list) or not value:
        return rng.choice(ODD)
    value = value.copy()
    place = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
    if rng.random() < 0.15:
        value.pop(place)
    else:
        value[place] = mutated(value[place], rng, depth + 1)
    return value


@pytest.mark.parametrize("name", FORMATS)
def test_any_value_gives_a_pair_or_a_refusal(name):
    rng = random.Random(name)
    for _ in range(40):
        record = EXAMPLES[name]
        for _ in range(rng.randint(1, 3)):
            changed = mutated(record, rng)
            record = changed if isinstance(changed, dict) else record
        for form in (FORMATS[name], MAPPED):
            frames = parse(Source("f", "f", [record], ""), form, "all", strict=False)
            assert frames.parsed.height or frames.refused.height
        with suppress(CurateError):
            choose("auto", [record], "f")


def test_a_row_number_that_no_file_has():
    record = EXAMPLES["canonical"] | {"source_row": 10**20}
    frames = parse(Source("f", "f", [record], ""), FORMATS["canonical"], strict=False)
    assert frames.refused["reason"].to_list() == ["source_row is integer; expected integer from 0"]
