"""Reward and cost of responses, by sequence-classification models with one output.

A model reads a conversation as its makers fed it: by the tokenizer's chat template; without one, in the format of
safe-rlhf, whose Beaver models rate PKU-SafeRLHF [code]. A batch holds sequences of one length and no padding, so that
a rating does not depend on what else is rated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch

from curate import __version__
from curate.base import files
from curate.base.device import device
from curate.base.errors import InputError
from curate.base.light import transformers
from curate.base.progress import Advance, progress, say
from curate.models.classifiers import load_classifier, load_config, load_tokenizer
from curate.models.resolve import Model
from curate.models.template import render as template_text
from curate.pairs.artefact import read_with_provenance
from curate.pairs.schema import RATINGS
from curate.scoring.budget import Budget
from curate.scoring.engines.transformers import BATCH_TOKENS

WHAT = "rating model"
CHUNK = 4096  # responses tokenised and rated at a time
SIDES = ("chosen", "rejected")
BEGIN, USER, ASSISTANT = "BEGINNING OF CONVERSATION: ", "USER: {} ", "ASSISTANT:"
"""safe-rlhf's prompt; a reply follows at once, then the end-of-sequence token. [code]"""

Messages = Sequence[Mapping[str, str]]


class Rater:
    """A rating model on `device()`: `rate_pairs` takes it.

    Raises:
        InputError: the folder holds no sequence-classification model with one output, or it cannot be loaded.
    """

    def __init__(self, model: Model, dtype: str = "float32") -> None:
        self.model = model
        self.tokenizer = load_tokenizer(model.path, trust_remote_code=model.trust_remote_code)
        self.net, self.bias = _load(model, dtype)
        self.budget = Budget(
            BATCH_TOKENS[device().type], "rate", model.path, "use dtype bfloat16, or a smaller rating model"
        )
        if not self.tokenizer.chat_template:
            say(f"rate: {model.name} has no chat template; its format is taken to be safe-rlhf's, {BEGIN}...")

    @torch.inference_mode()
    def rate(
        self, conversations: Sequence[Messages], names: Sequence[str], advance: Advance | None = None
    ) -> np.ndarray:
        """Ratings of conversations that end with the response to rate: float64, [conversations].

        Args:
            names: what errors call each.
            advance: called with the number of conversations as they are done.

        Raises:
            InputError: the format has no place for the conversation, it is longer than the model's context, it
                does not fit the device by itself, or the rating is no finite number.
        """
        ids = self.token_ids(conversations, names)
        ratings = np.empty(len(ids), dtype=np.float64)

        def run(rows: list[int]) -> np.ndarray:
            batch = torch.tensor([ids[row] for row in rows], device=device())
            out = self.net(input_ids=batch, attention_mask=torch.ones_like(batch)).logits
            return out[:, 0].double().cpu().numpy()  # type: ignore[no-any-return]

        for rows, rated in self.budget.of_one_length([len(row) for row in ids], run, "responses"):
            ratings[rows] = rated + self.bias
            if advance is not None:
                advance(len(rows))
        bad = np.flatnonzero(~np.isfinite(ratings))
        if bad.size:
            raise InputError(
                "the model gives a rating that is no finite number",
                file=self.model.path,
                field=names[bad[0]],
                found=f"{ratings[bad[0]]} ({bad.size} such)",
                remedy="use dtype float32 or bfloat16, and check the model's weights",
            )
        return ratings

    def token_ids(self, conversations: Sequence[Messages], names: Sequence[str]) -> list[list[int]]:
        """What the model reads of each. Raises `InputError` as `rate` does."""
        templated = bool(self.tokenizer.chat_template)
        render = self._by_template if templated else self._by_safe_rlhf
        texts = [render(messages, name) for messages, name in zip(conversations, names, strict=True)]
        if not texts:
            return []
        # A template has written the special tokens itself.
        ids = list(self.tokenizer(texts, add_special_tokens=not templated, verbose=False)["input_ids"])
        longest = max(range(len(ids)), key=lambda row: len(ids[row]))
        if len(ids[longest]) > self.model.context:
            raise InputError(
                "a conversation is longer than the rating model's context",
                file=self.model.path,
                field=names[longest],
                found=f"{len(ids[longest])} tokens, the longest of {len(ids)}",
                expected=f"at most {self.model.context}",
                remedy="drop such pairs, or rate with a model of a longer context",
            )
        return ids

    def _by_template(self, messages: Messages, name: str) -> str:
        return template_text(self.tokenizer, messages, name)

    def _by_safe_rlhf(self, messages: Messages, name: str) -> str:
        if [message["role"] for message in messages] != ["user", "assistant"] * (len(messages) // 2):
            raise self._refused(messages, name, "it has no place for these turns")
        turn, end = USER + ASSISTANT, self.tokenizer.eos_token or ""
        contents = [message["content"] for message in messages]
        asked = (turn.format(content) for content in contents[::2])
        return BEGIN + "".join(part for pair in zip(asked, contents[1::2], strict=True) for part in (*pair, end))

    def _refused(self, messages: Messages, name: str, reason: str) -> InputError:
        return InputError(
            "the rating model's format refuses this conversation",
            file=self.model.path,
            field=name,
            found=f"roles {[message['role'] for message in messages]}: {reason}",
            remedy="drop the pair, or use a rating model that takes these roles",
        )


def rate_pairs(rater: Rater, pairs: pl.DataFrame, what: str = "rate") -> tuple[np.ndarray, np.ndarray]:
    """Ratings of the chosen and of the rejected responses: float64, [pairs] each, with a progress bar named `what`.

    All are tokenised before the first is rated, so that what is wrong with the data shows early.

    Raises:
        InputError: as `Rater.rate`; it names the pair.
    """
    parts: dict[str, list[np.ndarray]] = {side: [np.empty(0)] for side in SIDES}
    for chunk in _chunks(pairs):
        rater.token_ids(*chunk)
    with progress(what, len(SIDES) * pairs.height, "responses") as advance:
        for chunk in _chunks(pairs):
            for side, ratings in zip(SIDES, np.split(rater.rate(*chunk, advance), len(SIDES)), strict=True):
                parts[side].append(ratings)
    chosen, rejected = (np.concatenate(parts[side]) for side in SIDES)
    return chosen, rejected


def _chunks(pairs: pl.DataFrame) -> Iterator[tuple[list[Messages], list[str]]]:
    """Conversations and their names, at most CHUNK at a time: all chosen ones, then all rejected ones."""
    for chunk in pairs.select("pair_id", "prompt", *SIDES).iter_slices(CHUNK // len(SIDES)):
        conversations = [
            prompt + response
            for side in SIDES
            for prompt, response in zip(chunk["prompt"].to_list(), chunk[side].to_list(), strict=True)
        ]
        yield conversations, [f"pair {pair}, {side}" for side in SIDES for pair in chunk["pair_id"]]


class Rated(NamedTuple):
    pairs: pl.DataFrame  # the file's columns and those of schema.RATINGS that were asked for
    provenance: dict[str, Any]


def rate_file(pairs: Path, models: Mapping[str, Model], dtype: str, out: Path) -> Rated:
    """Rate both responses of every pair of a file and write it with the ratings; those of an earlier run are replaced.

    Args:
        pairs: Parquet, columns of schema.PAIRS at least.
        models: by what they rate, `reward` or `cost`; one is in memory at a time.

    Raises:
        InputError: as `Rater` and `Rater.rate`; or `pairs` is no pairs file, or one without pairs.
        OutputError: `out` cannot be written.
    """
    frame, before = read_with_provenance(pairs, "pairs")
    if frame.is_empty():
        raise InputError("there is no pair to rate", file=pairs, remedy="see what `curate prepare` set aside, and why")
    for rating, model in models.items():
        rater = Rater(model, dtype)
        values = rate_pairs(rater, frame, f"rate ({rating})")
        del rater
        names = [f"{side}_{rating}" for side in SIDES]
        frame = frame.with_columns(
            pl.Series(name, column, dtype=RATINGS[name]) for name, column in zip(names, values, strict=True)
        )
    provenance = {
        "stage": "rate",
        "version": __version__,
        "models": {rating: model.record() for rating, model in models.items()},
        "engine": f"transformers {transformers.__version__}, torch {torch.__version__} on {device().type}",
        "params": {"dtype": dtype},
        "from": before,
    }
    files.write_parquet(frame, out, provenance)
    return Rated(frame, provenance)


def _load(model: Model, dtype: str) -> tuple[Any, float]:
    """The model, and what is to be added to its output.

    safe-rlhf's own class (`...ForScore`: a head `score_head`, with or without a bias, read at the last token) is the
    sequence-classification model of its architecture under other names, but for the bias. [code]
    """
    config = load_config(model, WHAT)
    architecture = (config.architectures or ["unknown"])[0]
    safe_rlhf = architecture.endswith("ForScore")
    if safe_rlhf:
        config.num_labels = getattr(config, "score_dim", 1)
    _check_config(model, config, architecture)
    renamed = {"key_mapping": {"^score_head": "score"}} if safe_rlhf else {}
    net = load_classifier(model, config, dtype, WHAT, **renamed)
    if safe_rlhf:
        net.config.get_text_config().pad_token_id = -1  # no token: transformers reads the last that is not of padding
    return net, _weight(model, "score_head.bias") if safe_rlhf else 0.0


def _check_config(model: Model, config: Any, architecture: str) -> None:
    """Raise `InputError` where config.json says that the model gives no single rating."""
    config_file = model.path / "config.json"
    if architecture.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")):
        raise InputError(
            "this is a language model, not a rating model",
            file=config_file,
            field="architectures",
            found=architecture,
            expected="a sequence-classification model with one output",
            remedy="give a reward or cost model",
        )
    if config.num_labels != 1:
        raise InputError(
            "the model has several outputs: none of them is the rating",
            file=config_file,
            field="num_labels",
            found=f"{config.num_labels}: {', '.join(str(label) for label in config.id2label.values())}"[:200],
            expected="one output",
            remedy="give a reward or cost model; a classifier's labels are no scale",
        )
    if getattr(config, "do_normalize", False):
        raise InputError(
            "the model normalises its scores, which is not supported",
            file=config_file,
            field="do_normalize",
            found=True,
            remedy="set it to false: the order of the scores stays, lambda and the limit are then in the raw unit",
        )


def _weight(model: Model, name: str) -> float:
    """A weight of one number, by its name in the file; 0 where there is none."""
    from safetensors import safe_open

    for path in sorted(model.path.glob("*.safetensors")):
        with safe_open(path, framework="pt") as weights:
            if name in weights.keys():  # noqa: SIM118  (no mapping)
                return float(weights.get_tensor(name).double().item())
    return 0.0
