"""Seeded damage: bytes, and the values of JSON and of frames."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import polars as pl

TOKENS = (
    b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"NaN", b"-Infinity", b"1e999", b"null", b"[" * 3000, b'{"a":' * 500,
    b"9" * 5000,
    b'"', b"\r\n", b",,", b"\\u0000", b"\\ud800", b"!!python/none", b"&a *a", b"2024-13-45", b"0x_", b"\xef\xbb\xbf",
)  # fmt: skip
"""What parsers trip over."""
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 10**400, 1e308, float("nan"), float("inf"), "", " ", "\0", "\ud800", "x" * 5000, "../x",
    [], {}, [None], {"": None}, [[[[]]]], "2024-13-45", {"role": "user"}, [{"role": "user", "content": None}],
)  # fmt: skip


def damaged(data: bytes, draw: random.Random) -> bytes:
    """`data` after one to four cuts, flips, repeats or foreign tokens."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(len(data) + 1)
        end = min(len(data), at + draw.choice((1, 3, 20, 200)))
        match draw.randrange(6):
            case 0:
                data = data[:at]
            case 1:
                data = data[:at] + bytes(draw.randrange(256) for _ in range(end - at)) + data[end:]
            case 2:
                data = data[:at] + draw.choice(TOKENS) + data[at:]
            case 3:
                data = data[:at] + data[end:]
            case 4:
                data = data[:end] + data[at:end] * draw.choice((1, 3)) + data[end:]
            case 5:
                data = data[:at] + draw.choice(TOKENS) + data[end:]
    return data


def spoiled(value: Any, draw: random.Random) -> Any:
    """JSON `value` with one to three of its parts replaced, removed, repeated or renamed."""
    value = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return _value(draw)
        holder, key = draw.choice(places)
        match draw.randrange(5):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.append(copy.deepcopy(holder[key]))
            case 1:
                holder[draw.choice(("", "x y", "prompt", "a" * 300))] = holder.pop(key)
            case _:
                holder[key] = _value(draw)
    return value


def _value(draw: random.Random) -> Any:
    """One of VALUES, which itself is spoiled no further."""
    return copy.deepcopy(draw.choice(VALUES))


def _places(value: Any) -> Any:
    children = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, part in children:
        yield value, key
        yield from _places(part)


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def spoiled_frame(frame: pl.DataFrame, draw: random.Random) -> pl.DataFrame:
    """`frame` with a column of other values, another type, or gone; or with rows repeated."""
    name = draw.choice(frame.columns)
    row = pl.int_range(pl.len()) == draw.randrange(max(frame.height, 1))
    match draw.randrange(6):
        case 0:
            return frame.drop(name)
        case 1:
            return frame.with_columns(pl.lit(draw.choice((1, "x", None, 1.5, [1]))).alias(name))
        case 2:
            return pl.concat([frame, frame.head(draw.choice((1, 5)))])
        case 3:
            return frame.head(draw.choice((0, 1)))
        case 4 if frame[name].dtype.is_float():
            value = draw.choice((float("nan"), float("inf"), -1e300, 3.0))
            return frame.with_columns(pl.when(row).then(value).otherwise(name).alias(name))
    return frame.with_columns(pl.when(row.not_()).then(name).alias(name))
