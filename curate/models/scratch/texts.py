"""What the reference model reads: every entry of `reference.texts`, but dialogues that ask what is held out. [ours]

Of preference data only training pairs are read; and no dialogue, of whatever entry, that asks a prompt which
`data.source`, or a preference file of the list, holds out: as its beginning, or in a turn, under whatever system turns.
Plain text that is no dialogue has no prompts, and is read as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import chain
from typing import NamedTuple

import polars as pl

from curate.base import limits
from curate.base.errors import InputError
from curate.models.scratch.plain import Document, is_instructions, read_instructions, read_plain
from curate.pairs.identity import prompt_key, question_keys
from curate.pairs.prepare import prepare
from curate.pairs.schema import Split
from curate.pairs.sources.base import assistant, user
from curate.pairs.sources.files import read_file
from curate.project.params import CleaningParams, DataParams, ReferenceParams, is_file
from curate.sample.generator import sample_dialogues

DIALOGUES_PER_PAIR = 6
"""`sample` reads so many more dialogues than it has pairs: fresh ones teach more than the same ones again."""

CHARACTERS_PER_TOKEN = 8
"""More than any tokenizer made here packs into a token on average: a cap on tokens caps what is read of a file."""


class Text(NamedTuple):
    """One entry of `reference.texts`."""

    name: str
    documents: list[Document]
    capped: bool  # whether `text_tokens` holds for it


class Kind(StrEnum):
    """What an entry of `reference.texts` is."""

    PLAIN = "plain text"
    INSTRUCTIONS = "instructions"
    PREFERENCES = "preferences"


def kind(name: str) -> Kind:
    """By the name, and for JSON by the first record.

    Raises:
        InputError: a file that is missing or cannot be read.
    """
    if name.endswith((".txt", ".txt.gz")):
        return Kind.PLAIN
    if not is_file(name):
        return Kind.PREFERENCES
    return Kind.INSTRUCTIONS if is_instructions(read_file(name)) else Kind.PREFERENCES


def gather(params: ReferenceParams, data: DataParams, cleaning: CleaningParams) -> list[Text]:
    """Read every entry of `params.texts`, in order.

    Raises:
        InputError: a file is missing or of no kind that is read here, or nothing is left of it.
    """
    with limits.given(data.input_limit):
        return _gathered(params, data, cleaning)


def _gathered(params: ReferenceParams, data: DataParams, cleaning: CleaningParams) -> list[Text]:
    kinds = {name: kind(name) for name in params.texts}
    preferences = [name for name in kinds if kinds[name] == Kind.PREFERENCES]
    pairs = {name: prepare(_like(data, name), cleaning).pairs for name in dict.fromkeys([data.source, *preferences])}
    sides = (frame.filter(pl.col("split") == Split.HELDOUT) for frame in pairs.values())
    heldout = set(chain.from_iterable(map(question_keys, sides)))
    texts = []
    for name in params.texts:
        capped = kinds[name] != Kind.PREFERENCES
        seen = _unasked(_documents(name, kinds[name], pairs, data), heldout)
        documents = _capped(seen, params.text_tokens) if capped else list(seen)
        if not documents:
            raise InputError("nothing to read for the reference model", file=name, field="reference.texts")
        texts.append(Text(name, documents, capped))
    return texts


def _documents(name: str, kind: Kind, pairs: Mapping[str, pl.DataFrame], data: DataParams) -> Iterable[Document]:
    """What an entry holds; of preferences the training pairs."""
    if kind == Kind.PLAIN:
        return read_plain(name)
    if kind == Kind.INSTRUCTIONS:
        return read_instructions(name)
    return chain(_dialogues(pairs[name]), _more(data) if name == "sample" else ())


def _unasked(documents: Iterable[Document], heldout: set[str]) -> Iterator[Document]:
    """The documents that ask nothing which is held out (question keys)."""
    return (document for document in documents if heldout.isdisjoint(_asked(document)))


def _asked(document: Document) -> Iterator[str]:
    """The question key of the document up to each user turn, and of that turn by itself; of plain text none."""
    turns = [] if isinstance(document, str) else [turn for turn in document if turn["role"] != "system"]
    for number, turn in enumerate(turns):
        if turn["role"] == "user":
            yield prompt_key([turn])
            if number:
                yield prompt_key(turns[: number + 1])


def _like(data: DataParams, name: str) -> DataParams:
    """`data` for its own source; for another, what does not depend on the source."""
    if name == data.source:
        return data
    shared = ("sample_pairs", "heldout_fraction", "seed", "input_limit")
    return DataParams(source=name, **{key: getattr(data, key) for key in shared})


def _dialogues(pairs: pl.DataFrame) -> list[Document]:
    """Both responses of every training pair, each a dialogue with its prompt."""
    kept = pairs.filter(pl.col("split") == Split.TRAIN)
    sides = kept.select(pl.concat_list("prompt", side).alias(side) for side in ("chosen", "rejected"))
    return list(chain.from_iterable(sides.iter_rows()))


def _more(data: DataParams) -> Iterator[Document]:
    """More dialogues of the sample's kind."""
    made = sample_dialogues(DIALOGUES_PER_PAIR * data.sample_pairs, data.seed)
    return ([user(prompt), assistant(response)] for prompt, response in made)


def _capped(documents: Iterable[Document], tokens: int) -> list[Document]:
    """The first documents, until they must hold `tokens` tokens (0: all)."""
    kept: list[Document] = []
    left = tokens * CHARACTERS_PER_TOKEN if tokens else float("inf")
    for document in documents:
        if left <= 0:
            break
        kept.append(document)
        left -= len(document) if isinstance(document, str) else sum(len(turn["content"]) for turn in document)
    return kept
