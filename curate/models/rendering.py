"""Chat template -> token ids, with an exact boundary between prompt and response. Made here once, for all.

A response is scored, and trained on, from its first token to its end-of-turn token; what a template writes
after that (Qwen's newline) belongs to no one. A null prompt is followed by the response's own token ids, so
that log p(y|x) and log p(y|null) speak of the same y.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from curate.base import files
from curate.base.errors import InputError
from curate.base.progress import Advance
from curate.models.resolve import Model

TEMPLATE_OPTIONS = {"enable_thinking": False, "date_string": "26 Jul 2024"}
"""Given to every template; one that knows no such variable ignores it. Without the first, Qwen3 writes an empty
thought into each response, which would be scored; without the second, Llama 3's ids change with the calendar."""

Messages = Sequence[Mapping[str, str]]

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
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model.path, trust_remote_code=model.trust_remote_code)
    except (OSError, ValueError, ImportError) as error:
        raise InputError("cannot load the tokenizer", file=model.path, found=str(error).splitlines()[0]) from error
    if not tokenizer.chat_template:
        raise InputError(
            "the tokenizer has no chat template",
            file=model.path,
            expected="chat_template.jinja, or chat_template in tokenizer_config.json",
            remedy="use an instruct model, or put the template its makers recommend beside the tokenizer",
        )
    return tokenizer


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
        texts = [_prompt_text(tokenizer, prompt, name) for prompt, name in zip(prompts, names, strict=True)]
        prompt_ids = _prompt_ids(tokenizer, texts, names)
        end = _end_of_turn(tokenizer, prompts[0], names[0])
        columns: dict[str, Any] = {"pair_id": ids, "prompt_ids": prompt_ids}
        for side in ("chosen", "rejected"):
            sides = [f"{name}, {side}" for name in names]
            responses = chunk[side].to_list()
            columns[f"{side}_ids"] = _response_ids(tokenizer, end, prompts, texts, prompt_ids, responses, sides)
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
        name = "the null prompt"
        return _prompt_ids(tokenizer, [_prompt_text(tokenizer, [{"role": "user", "content": ""}], name)], [name])[0]
    if tokenizer.bos_token_id is None:
        raise InputError(
            "this tokenizer has no beginning-of-sequence token", field="null_prompt", remedy="use empty_user"
        )
    return [tokenizer.bos_token_id]


def prompt_token_ids(tokenizer: Any, prompts: Sequence[Messages], names: Sequence[str]) -> list[list[int]]:
    """Token ids of each prompt, up to where a response begins: as scoring and training have them.

    Args:
        names: of the prompts, as errors have them.

    Raises:
        InputError: a template that refuses the messages, a prompt of no token; the message names the prompt.
    """
    named = list(zip(map(list, prompts), names, strict=True))
    return _prompt_ids(tokenizer, [_prompt_text(tokenizer, prompt, name) for prompt, name in named], names)


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
    conversations = [list(prompt) for prompt in prompts]
    texts = [_prompt_text(tokenizer, prompt, name) for prompt, name in zip(conversations, names, strict=True)]
    prompt_ids = _prompt_ids(tokenizer, texts, names)
    end = _end_of_turn(tokenizer, conversations[0], names[0])
    turns = [[{"role": "assistant", "content": response}] for response in responses]
    rendered = _response_ids(tokenizer, end, conversations, texts, prompt_ids, turns, names)
    return [
        TokenSequence(*(np.asarray(ids, dtype=np.int32) for ids in row))
        for row in zip(prompt_ids, rendered, strict=True)
    ]


def prefill_token_ids(
    tokenizer: Any, prompts: Sequence[Messages], prefills: Sequence[str], names: Sequence[str]
) -> list[list[int]]:
    """Token ids of the beginning that each response is to have, without the token that would end it.

    They are those of a rendered response of the same text, so that DOOR trains on the very tokens that an attack
    gives. Arguments and errors as for `render_responses`.
    """
    if not prefills:
        return []
    rendered = render_responses(tokenizer, prompts, prefills, [f"{name}, prefill" for name in names])
    ends = _ids_of(tokenizer, _end_of_turn(tokenizer, list(prompts[0]), names[0]), tokenizer.eos_token)
    responses = [sequence.response_ids.tolist() for sequence in rendered]
    return [ids[:-1] if ids[-1] in ends else ids for ids in responses]


def stop_token_ids(tokenizer: Any, model: Model) -> set[int]:
    """The tokens that end a response: the template's end of turn, the tokenizer's end of text, and what the model's
    makers name in generation_config.json (config.json where there is none).

    Raises:
        InputError: a template that refuses a user's turn.
    """
    prompt = [{"role": "user", "content": "a"}]
    stops = _ids_of(tokenizer, _end_of_turn(tokenizer, prompt, "a prompt of one user turn"), tokenizer.eos_token)
    config = model.path / "generation_config.json"
    named = files.read_json(config if config.is_file() else model.path / "config.json").get("eos_token_id")
    return stops | {int(token) for token in (named if isinstance(named, list) else [named]) if token is not None}


def _ids_of(tokenizer: Any, *tokens: str | None) -> set[int]:
    """Of special tokens; none for one that is empty."""
    return {int(tokenizer.convert_tokens_to_ids(token)) for token in tokens if token}


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


def _template(tokenizer: Any, messages: Messages, name: str, **options: Any) -> str:
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, **TEMPLATE_OPTIONS, **options))
    except Exception as error:  # jinja's errors, and whatever a template raises by itself
        raise InputError(
            "the chat template refuses the messages",
            field=name,
            found=f"roles {[m['role'] for m in messages]}: {error}",
            remedy="drop them, or use a model whose template takes these roles",
        ) from error


def _prompt_text(tokenizer: Any, prompt: Messages, name: str) -> str:
    return _template(tokenizer, prompt, name, add_generation_prompt=True)


def _end_of_turn(tokenizer: Any, prompt: Messages, name: str) -> str:
    """The special token that the template ends a response with, or nothing.

    It is asked with a response of our own, for a pair's may end with the text of any special token.
    """
    text = _template(tokenizer, [*prompt, {"role": "assistant", "content": "a"}], name).rstrip()
    # Gemma 3's <end_of_turn> has no name, hence is special in the vocabulary only.
    unnamed = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    return max((t for t in (*tokenizer.all_special_tokens, *unnamed) if text.endswith(t)), key=len, default="")


def _response_ids(
    tokenizer: Any,
    end: str,
    prompts: Sequence[Messages],
    texts: Sequence[str],
    prompt_ids: Sequence[list[int]],
    responses: Sequence[Messages],
    names: Sequence[str],
) -> list[list[int]]:
    """Token ids of each response to a prompt, given its text and ids; `names` are of the responses."""
    full = [_full_text(tokenizer, end, *row) for row in zip(texts, prompts, responses, names, strict=True)]
    return [
        _cut(tokenizer, *row) for row in zip(texts, full, prompt_ids, _tokenize(tokenizer, full), names, strict=True)
    ]


def _full_text(tokenizer: Any, end: str, before: str, prompt: Messages, response: Messages, name: str) -> str:
    """Prompt and response as text, ending with the end-of-turn token."""
    full = _template(tokenizer, [*prompt, *response], name)
    if not full.startswith(before):
        raise InputError(
            "the template renders the prompt differently once a response follows",
            field=name,
            expected="the rendered prompt as an exact prefix",
            remedy="use a template whose generation prompt is a prefix of the assistant's turn",
        )
    stripped = full.rstrip()
    return stripped if end and stripped.endswith(end) else full + (tokenizer.eos_token or "")


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
