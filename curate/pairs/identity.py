"""What makes two pairs the same pair, and two prompts the same prompt [ours: docs/method.md, Subsets]."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

Messages = Sequence[Mapping[str, str]]

DIGITS = 32  # hex digits kept of a sha256: 128 bits, no collision in any data set


EDGES = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
"""White space, and characters that nobody sees: a text of these alone is empty, and two texts that differ in such at
their edges are the same."""


def digest(value: object) -> str:
    """sha256 of the value's canonical JSON (UTF-8, sorted keys, no spaces), the first 32 hex digits.

    Half of a surrogate pair, which a JSON escape can bring, counts as the three bytes that it would be.
    """
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]


def pair_id(prompt: Messages, chosen: Messages, rejected: Messages) -> str:
    """The identity of a pair: every role and character of it, in order."""
    return digest([prompt, chosen, rejected])


def of_other_texts(pairs: pl.Series) -> pl.Series:
    """Whether each pair_id is another pair's than that of the texts beside it, as where these were edited.

    Args:
        pairs: structs of pair_id, prompt, chosen and rejected. An id may end in the number of a repeat that was kept.
    """
    known = [row["pair_id"] for row in pairs]
    own = (pair_id(row["prompt"], row["chosen"], row["rejected"]) for row in pairs)
    other = [one is not None and one.partition("-")[0] != made for one, made in zip(known, own, strict=True)]
    return pl.Series(pairs.name, other, dtype=pl.Boolean)


OF_OTHER_TEXTS = pl.struct("pair_id", "prompt", "chosen", "rejected").map_batches(
    of_other_texts, return_dtype=pl.Boolean, is_elementwise=True
)
"""`of_other_texts`, of a frame's rows."""


def bare(turns: Messages) -> list[dict[str, str]]:
    """The turns without EDGES around each."""
    return [{"role": turn["role"], "content": turn["content"].strip(EDGES)} for turn in turns]


def prompt_key(prompt: Messages) -> str:
    """The identity of a prompt but for case, width and spacing: what the split must not tear apart.

    All turns count, with their roles. Each content is put through NFKC, casefolded, without EDGES around it, and its
    runs of white space become one space.
    """
    return digest([[turn["role"], _normalise(turn["content"])] for turn in prompt])


def question_keys(pairs: pl.DataFrame) -> pl.Series:
    """The identity of each prompt without its system turns: the same question under two system turns has one key.

    For a prompt without a system turn it is the prompt_key.

    Args:
        pairs: has prompt and prompt_key.
    """
    told = pairs["prompt"].list.eval(pl.element().struct.field("role") == "system").list.any()
    keys = pairs["prompt_key"].to_list()
    for row in told.arg_true():
        keys[row] = prompt_key([turn for turn in pairs["prompt"][row].to_list() if turn["role"] != "system"])
    return pl.Series("question_key", keys, dtype=pl.String)


def on_both_sides(pairs: pl.DataFrame) -> pl.Expr:
    """Whether the prompt of each of these rows is on both sides of the split, whatever its system turn."""
    return pl.col("split").n_unique().over(pl.lit(question_keys(pairs))) > 1


def _normalise(text: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.strip(EDGES).split())


def draw_order(keys: Iterable[str], seed: int, purpose: str = "") -> list[bytes]:
    """sha256(seed|key) of each key: what every seeded draw sorts by, so that the order of the rows never matters.

    Args:
        purpose: a name of the draw's own, which the hash then begins with. Two draws by one hash take the same keys
            first: what was drawn once stands at the front, or is gone, when one draws again.
    """
    name = f"{purpose}|" if purpose else ""
    return [hashlib.sha256(f"{name}{seed}|{key}".encode()).digest() for key in keys]
