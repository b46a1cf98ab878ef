"""Chat template -> token ids, with an exact boundary between prompt and response. Made here once, for all.

A response is scored, and trained on, from its first token to its end-of-turn token (`curate.models.turn` finds it);
what a template writes after that (Qwen's newline) belongs to no one. A null prompt is followed by the response's own
token ids, so that log p(y|x) and log p(y|null) speak of the same y.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from curate.base import files
from curate.base.errors import InputError
from curate.base.progress import Advance
from curate.models.faults import loading
from curate.models.resolve import Model
from curate.models.template import Messages, render, render_all
from curate.models.turn import CLOSED_THOUGHT, Turn, check_written, turn_of

CHUNK = 512  # pairs rendered at a time
RENDERED = {
    "pair_id": pl.String,
    **dict.fromkeys(("prompt_ids", "chosen_ids", "rejected_ids"), pl.List(pl.Int32)),
}


class TokenSequence(NamedTuple):
    """What an engine scores: log p(response_ids | prompt_ids)."""

    prompt_ids: np.ndarray  # int32, [prompt tokens], at least one
    response_ids: np.ndarray  # int32, [response tokens], at least one

    @property
    def length(self) -> int:
        """Tokens, prompt and response together."""
        return len(self.prompt_ids) + len(self.response_ids)


def load_tokenizer(model: Model) -> Any:
    """The model's tokenizer.

    Raises:
        InputError: none there, or one without a chat template.
    """
    from curate.base.light import transformers

    with loading("tokenizer", model.path):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            model.tokenizer, trust_remote_code=model.trust_remote_code
        )
    if not tokenizer.chat_template:
        raise InputError(
            "the tokenizer has no chat template",
            file=model.path,
            expected="chat_template.jinja, or chat_template in tokenizer_config.json",
            remedy="use an instruct model, or put the template its makers recommend beside the tokenizer",
        )
    tokenizer.curate_ends = frozenset(named_ends(model.path))
    return tokenizer


def named_ends(folder: Path) -> set[int]:
    """Ids that end a generation by the model's generation_config.json (config.json where there is none)."""
    config = folder / "generation_config.json"
    file = config if config.is_file() else folder / "config.json"
    named = files.read_json_object(file).get("eos_token_id")
    tokens = [token for token in (named if isinstance(named, list) else [named]) if token is not None]
    if not all(isinstance(token, int) for token in tokens):
        raise InputError("not the ids of tokens", file=file, field="eos_token_id", expected="whole numbers")
    return set(tokens)


def render_pairs(tokenizer: Any, pairs: pl.DataFrame, advance: Advance | None = None) -> pl.DataFrame:
    """Token ids of every pair: columns `RENDERED`, one row a pair, in the pairs' order.

    Args:
        advance: called with the number of pairs as they are done.

    Raises:
        InputError: a template that refuses the messages, a prompt or a response of no token, a prompt whose ids are
            not an exact prefix of the prompt and response's ids, or two responses of the same ids; the message
            names the pair.
    """
    parts = []
    for chunk in pairs.select("pair_id", "prompt", "chosen", "rejected").iter_slices(CHUNK):
        ids = chunk["pair_id"].to_list()
        prompts = chunk["prompt"].to_list()
        names = [f"pair {pair}" for pair in ids]
        turn, texts = _prompt_texts(tokenizer, prompts, names)
        prompt_ids = _prompt_ids(tokenizer, texts, names)
        columns: dict[str, Any] = {"pair_id": ids, "prompt_ids": prompt_ids}
        for side in ("chosen", "rejected"):
            sides = [f"{name}, {side}" for name in names]
            whole = _whole_texts(tokenizer, turn, prompts, texts, chunk[side].to_list(), sides)
            columns[f"{side}_ids"] = _cut_all(tokenizer, texts, [w.scored for w in whole], prompt_ids, sides)
        for pair, chosen_ids, rejected_ids in zip(ids, columns["chosen_ids"], columns["rejected_ids"], strict=True):
            if chosen_ids == rejected_ids:
                raise InputError(
                    "both responses are the same tokens",
                    field=f"pair {pair}",
                    expected="responses that the tokenizer tells apart",
                    remedy="drop the pair; the tokenizer or the template takes away what the texts differ in",
                )
        parts.append(pl.DataFrame(columns, schema=RENDERED))
        if advance is not None:
            advance(chunk.height)
    return pl.concat(parts) if parts else pl.DataFrame(schema=RENDERED)


def render_or_set_aside(
    tokenizer: Any, pairs: pl.DataFrame, advance: Advance | None = None
) -> tuple[pl.DataFrame, dict[str, str]]:
    """`render_pairs` of those pairs that it can render; and of the others the reason, by pair id."""
    rendered: list[pl.DataFrame] = []
    faults: dict[str, str] = {}
    for chunk in pairs.iter_slices(CHUNK):
        try:
            rendered.append(render_pairs(tokenizer, chunk))
        except InputError:
            for pair in chunk.iter_slices(1):
                try:
                    rendered.append(render_pairs(tokenizer, pair))
                except InputError as error:
                    found = error.details.get("found")
                    faults[pair["pair_id"].item()] = f"{error.what}: {found}" if found else error.what
        if advance is not None:
            advance(chunk.height)
    return pl.concat([pl.DataFrame(schema=RENDERED), *rendered]), faults


def null_prompt_ids(tokenizer: Any, kind: str) -> list[int]:
    """Token ids of `null`: the template with an empty user turn (`empty_user`), or one BOS token (`bos`). [ours]

    Raises:
        InputError: `bos` for a tokenizer that has no such token; a template that renders an empty turn to no token.
    """
    if kind == "empty_user":
        return prompt_token_ids(tokenizer, [[{"role": "user", "content": ""}]], ["the null prompt"])[0]
    if tokenizer.bos_token_id is None:
        raise InputError(
            "this tokenizer has no beginning-of-sequence token", field="null_prompt", remedy="use empty_user"
        )
    return [tokenizer.bos_token_id]


def prompt_text(tokenizer: Any, prompt: Messages, name: str) -> str:
    """A prompt as text, up to where a response begins. Raises `InputError` where the template refuses the messages."""
    return _prompt_texts(tokenizer, [prompt], [name])[1][0]


def prompt_token_ids(tokenizer: Any, prompts: Sequence[Messages], names: Sequence[str]) -> list[list[int]]:
    """Token ids of each prompt, up to where a response begins: as scoring and training have them.

    Args:
        names: of the prompts, as errors have them.

    Raises:
        InputError: a template that refuses the messages, a prompt of no token; the message names the prompt.
    """
    return _prompt_ids(tokenizer, _prompt_texts(tokenizer, prompts, names)[1], names) if prompts else []


def render_responses(
    tokenizer: Any, prompts: Sequence[Messages], responses: Sequence[str], names: Sequence[str]
) -> list[TokenSequence]:
    """Each response to its prompt, as `render_pairs` renders the responses of a pair.

    Args:
        names: of the responses, as errors have them.

    Raises:
        InputError: as `render_pairs`, of one prompt and one response.
    """
    if not responses:
        return []
    texts, prompt_ids, whole = _answered(tokenizer, prompts, responses, names)
    rendered = _cut_all(tokenizer, texts, [w.scored for w in whole], prompt_ids, names)
    return [
        TokenSequence(*(np.asarray(ids, dtype=np.int32) for ids in row))
        for row in zip(prompt_ids, rendered, strict=True)
    ]


def prefill_token_ids(
    tokenizer: Any, prompts: Sequence[Messages], prefills: Sequence[str], names: Sequence[str]
) -> list[list[int]]:
    """Token ids of the beginning that each response is to have, without anything that the template would end it with.

    They are those of a rendered response of the same text, so that DOOR trains on the very tokens that an attack
    gives. Arguments and errors as for `render_responses`.
    """
    if not prefills:
        return []
    names = [f"{name}, prefill" for name in names]
    texts, prompt_ids, whole = _answered(tokenizer, prompts, prefills, names)
    return _cut_all(tokenizer, texts, [w.said for w in whole], prompt_ids, names)


def stop_token_ids(tokenizer: Any, model: Model) -> set[int]:
    """The tokens that end a response: the template's end of turn, the tokenizer's end of text, and what the model's
    makers name in generation_config.json (config.json where there is none).

    Raises:
        InputError: a template that refuses a user's turn.
    """
    ends = {turn_of(tokenizer).end, tokenizer.eos_token} - {"", None}
    return {int(tokenizer.convert_tokens_to_ids(end)) for end in ends} | named_ends(model.path)


def _tokenize(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    # The template has written the special tokens itself.
    return list(tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"])


def _prompt_ids(tokenizer: Any, texts: Sequence[str], names: Sequence[str]) -> list[list[int]]:
    prompt_ids = _tokenize(tokenizer, texts) if texts else []
    for ids, name in zip(prompt_ids, names, strict=True):
        if not ids:
            raise InputError(
                "the prompt renders to no token",
                field=name,
                expected="a token, for the first of the response to be predicted from",
                remedy="use a template that writes a special token before the response",
            )
    return prompt_ids


class _Whole(NamedTuple):
    """Prompt and response as text."""

    said: str  # to the end of the response's own text
    scored: str  # to the token that ends it


def _prompt_texts(
    tokenizer: Any, prompts: Sequence[Messages], names: Sequence[str]
) -> tuple[Turn | InputError, list[str]]:
    """How the template writes a response (or why it does not), and each prompt's text up to where one begins."""
    texts = render_all(tokenizer, prompts, names, add_generation_prompt=True)
    check_written(tokenizer, prompts, names)
    try:
        turn = turn_of(tokenizer)
    except InputError as error:  # a template for prompts alone: whoever has a response to render raises it
        return error, texts
    return turn, [turn.before(text) for text in texts]


def _whole_texts(
    tokenizer: Any,
    turn: Turn | InputError,
    prompts: Sequence[Messages],
    texts: Sequence[str],
    responses: Sequence[Messages],
    names: Sequence[str],
) -> list[_Whole]:
    """Each response behind its prompt's text; `names` are of the responses."""
    conversations = [[*prompt, *response] for prompt, response in zip(prompts, responses, strict=True)]
    rendered = render_all(tokenizer, conversations, names)
    if isinstance(turn, InputError):
        raise InputError(turn.what, **(turn.details | {"field": names[0]}))  # type: ignore[arg-type]
    return [
        _whole(tokenizer, turn, *row) for row in zip(rendered, texts, [r[-1] for r in responses], names, strict=True)
    ]


def _answered(
    tokenizer: Any, prompts: Sequence[Messages], responses: Sequence[str], names: Sequence[str]
) -> tuple[list[str], list[list[int]], list[_Whole]]:
    """Each prompt's text and its ids, and the text of both prompt and response; `names` are of the responses."""
    turns = [[{"role": "assistant", "content": response}] for response in responses]
    turn, texts = _prompt_texts(tokenizer, prompts, names)
    prompt_ids = _prompt_ids(tokenizer, texts, names)
    return texts, prompt_ids, _whole_texts(tokenizer, turn, prompts, texts, turns, names)


def _whole(tokenizer: Any, turn: Turn, text: str, before: str, response: Mapping[str, str], name: str) -> _Whole:
    """Prompt and response as text, ending with the end-of-turn token, given the template's rendering of both."""
    if not text.startswith(before):
        # It writes the prompt otherwise once a response follows (Mistral drops a system turn then). A generation has
        # the prompt as it is before; behind it stands what the template writes behind a prompt of ours.
        text = render(tokenizer, [*turn.asked, response], name)
        if not text.startswith(turn.opened):
            raise _rewritten(tokenizer, response["content"], name)
        text = before + text[len(turn.opened) :]
    content = response["content"]
    if CLOSED_THOUGHT.search(content) and content.strip() not in text[len(before) :]:
        raise _rewritten(tokenizer, content, name)
    if text.endswith(turn.tail):
        said = text.removesuffix(turn.tail)
        return _Whole(said, said + turn.scored)
    stripped = text.rstrip()
    if turn.end and stripped.endswith(turn.end):
        return _Whole(stripped.removesuffix(turn.end), stripped)
    raise InputError(
        "the template ends this response unlike others",
        file=tokenizer.name_or_path or None,
        field=name,
        expected=f"{turn.tail!r} after the response",
        remedy="drop the pair, or mend the model's chat_template",
    )


def _rewritten(tokenizer: Any, content: str, name: str) -> InputError:
    thought = CLOSED_THOUGHT.search(content)
    return InputError(
        "the template takes a part of the response for a thought, and writes it elsewhere or not at all"
        if thought
        else "the template writes this response so that the prompt before it changes",
        file=tokenizer.name_or_path or None,
        field=name,
        found=f"{thought[0]}... in the response" if thought else None,
        expected="a response without its thought" if thought else "the rendered prompt as an exact prefix",
        remedy="take the thoughts out of the responses (all up to the mark that ends them), or set such pairs aside: "
        "score.unrenderable: reject"
        if thought
        else "drop the pair, or use a template whose generation prompt is a prefix of the assistant's turn",
    )


def _cut_all(
    tokenizer: Any,
    texts: Sequence[str],
    whole: Sequence[str],
    prompt_ids: Sequence[list[int]],
    names: Sequence[str],
) -> list[list[int]]:
    """The ids of what follows each prompt's text in the whole."""
    return [
        _cut(tokenizer, *row) for row in zip(texts, whole, prompt_ids, _tokenize(tokenizer, whole), names, strict=True)
    ]


def _cut(tokenizer: Any, text: str, full: str, before: list[int], both: list[int], name: str) -> list[int]:
    """The response's token ids: what follows the prompt's, which must be an exact prefix."""
    if both[: len(before)] != before:
        at = next((i for i, (a, b) in enumerate(zip(before, both, strict=False)) if a != b), len(both))
        raise InputError(
            "a token spans the boundary between prompt and response",
            field=name,
            found=f"token {at} of {len(before)} prompt tokens differs once the response follows",
            expected="the prompt's token ids as an exact prefix",
            remedy="use a template that ends the generation prompt with a special token or a newline",
        )
    if before[-1] == tokenizer.unk_token_id and _end_of_token(tokenizer, full, len(before) - 1) > len(text):
        raise InputError(
            "a token spans the boundary between prompt and response",
            field=name,
            found="an unknown token, which stands for the prompt's last characters and the response's first",
            remedy="use a template that ends the generation prompt with a special token",
        )
    if len(both) == len(before):
        raise InputError("the response renders to no token", field=name)
    return both[len(before) :]


def _end_of_token(tokenizer: Any, text: str, index: int) -> int:
    """Where a token's characters end in the text; past it for a tokenizer that cannot say."""
    if not tokenizer.is_fast:
        return len(text) + 1
    return int(tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"][index][1])
