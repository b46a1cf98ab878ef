"""Which requests are generated together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from curate.evaluation.generation.base import Request


def batches(requests: Sequence[Request], budget: int) -> Iterator[list[int]]:
    """Numbers of requests in batches of like length, longest first, whatever order they come in.

    Longest first, because an engine that runs out of memory should do so at once.

    Args:
        budget: requests of a batch, times its longest prompt and most `max_tokens` together, at most (or one request).
    """

    def place(number: int) -> tuple:
        request = requests[number]
        length = len(request.prompt_ids)
        return (-length, -request.max_tokens, request.prompt_ids.tolist(), *request[2:])

    batch: list[int] = []
    longest = most = 0
    for number in sorted(range(len(requests)), key=place):
        request = requests[number]
        most = max(most, request.max_tokens)
        longest = max(longest, len(request.prompt_ids))
        if batch and (len(batch) + 1) * (longest + most) > budget:
            yield batch
            batch, longest, most = [], len(request.prompt_ids), request.max_tokens
        batch.append(number)
    if batch:
        yield batch


def tokens_each(batch: Sequence[Request]) -> int:
    """Tokens that each request of a batch may take: the longest prompt, and the most that an answer may have."""
    return max(len(request.prompt_ids) for request in batch) + max(request.max_tokens for request in batch)
