"""What vLLM servers are asked before scoring, and what their answers mean: their version, the models they serve."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from curate.base.endpoint import CONNECT_SECONDS, LONGEST_REST, TELL_SECONDS, Endpoint, Fault, client, refusal, status
from curate.base.errors import InputError, UsageError
from curate.base.progress import say
from curate.models.resolve import Model

if TYPE_CHECKING:
    import httpx

START_TRIES = 3  # of the questions asked before scoring


class Server(Endpoint):
    """One server, and what it calls the model."""

    model = ""


def server_version(urls: Sequence[str], by_context: Model | None = None, served_name: str | None = None) -> str:
    """What the servers run, as the score store's key and provenance have it: "vllm 0.32.0 (server)".

    "openai-compatible server" when they do not tell. No URL is in it.

    Args:
        by_context: the model, where its numbers go by the context that it is served with: then that is told, too.
        served_name: as `served_name_of` has it.

    Raises:
        UsageError: no URL, or one that is none.
        InputError: a server that cannot be reached or refuses the key, or servers that differ.
    """
    versions = {}
    with client(CONNECT_SECONDS) as asking:
        for server in servers_of(urls):
            versions[server.label] = _version_of(asking, server)
            if by_context:
                context = _card_of(asking, server, by_context, served_name).get("max_model_len", "not told")
                versions[server.label] += f", context {context}"
    if len(set(versions.values())) > 1:
        raise InputError(
            f"the servers run different versions{' or contexts' if by_context else ''}, whose numbers may differ",
            found="; ".join(f"{label}: {version}" for label, version in versions.items()),
            expected="one version" + (" and one --max-model-len" if by_context else ""),
            remedy="score with servers of one version",
        )
    return next(iter(versions.values()))


def _version_of(asking: httpx.Client, server: Server) -> str:
    response = _get(asking, server, "/version")
    if response.status_code == 200:
        try:
            return f"vllm {response.json()['version']} (server)"
        except (ValueError, KeyError, TypeError):
            pass  # a gateway's own page
    _cards(asking, server)  # it must at least be a server of models
    return "openai-compatible server"


def servers_of(urls: Sequence[str]) -> list[Server]:
    """Each server once, in the order given."""
    servers = {server.root: server for server in map(Server, urls)}
    if not servers:
        raise UsageError("no server is given", expected="one address or more, like http://host:8000/v1")
    return list(servers.values())


def _get(asking: httpx.Client, server: Server, path: str) -> httpx.Response:
    """The server's answer, whatever its status.

    Raises:
        InputError: there is none, or one that may pass and did not within START_TRIES.
    """
    rest = 0.0
    for attempt in range(START_TRIES):
        time.sleep(rest)
        try:
            return server.get(asking, path)
        except Fault as passing:
            fault, rest = str(passing), max(0.5 * (attempt + 1), min(passing.rest, LONGEST_REST))
            if rest > TELL_SECONDS and attempt + 1 < START_TRIES:
                say(f"score: {server} is asked again in {rest:.0f} s ({fault})")
    raise InputError(
        "the scoring server cannot be reached",
        field=str(server),
        found=fault,
        remedy="check the address; a server that is still loading its model answers when it is ready",
    )


def _cards(asking: httpx.Client, server: Server) -> list[dict[str, Any]]:
    """What the server serves.

    Raises:
        InputError: it cannot be reached, refuses, or is no server of models.
    """
    response = _get(asking, server, "/v1/models")
    if response.status_code != 200:
        raise refused(server, response)
    try:
        return [{"id": str(card["id"]), **card} for card in response.json()["data"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            "this is no OpenAI-compatible server",
            field=str(server),
            found=f"an answer of {len(response.content)} bytes from /v1/models ({type(error).__name__})",
            expected="a list of models",
            remedy="check the address",
        ) from None


def served_name_of(asking: httpx.Client, server: Server, model: Model, wanted: str | None) -> str:
    """What the server calls the model.

    An adapter is served under a name of its own, beside its base: a card of the base's is never taken for it.

    Raises:
        InputError: it does not serve it, or with too short a context.
    """
    card = _card_of(asking, server, model, wanted)
    if wanted is None and not _own(model) & {card["id"], card.get("root")}:
        say(f"score: {server} serves {card['id']!r}, which is taken to be {model.name}")
    longest = card.get("max_model_len")
    if isinstance(longest, int) and longest < model.context:
        raise InputError(
            "the server's context is shorter than the sequences may be",
            field=f"{server}, max_model_len",
            found=f"{longest} tokens",
            expected=f"at least {model.context} tokens",
            remedy=f"start it with --max-model-len {model.context}, or set score.max_length to {longest} or less",
        )
    return str(card["id"])


def _own(model: Model) -> set[str]:
    """What a server may call the model by itself."""
    return {model.name, str(model.folder), str(model.folder.resolve())}


def _card_of(asking: httpx.Client, server: Server, model: Model, wanted: str | None) -> dict[str, Any]:
    """What the server says of the model. Raises `InputError` where it does not serve it."""
    cards = _cards(asking, server)
    if wanted is not None:
        matches = [card for card in cards if card["id"] == wanted]
    else:
        matches = [card for card in cards if _own(model) & {card["id"], card.get("root")}]
        if not matches and len(cards) == 1 and not model.adapter:
            matches = cards
    if not matches:
        raise InputError(
            "the server does not serve this model",
            field=str(server),
            found=", ".join(card["id"] for card in cards) or "no model",
            expected=wanted or model.name,
            remedy="give one of the served names (--server-model), or start the server with this model"
            + (": --enable-lora --lora-modules NAME=FOLDER" if model.adapter else ""),
        )
    return matches[0]


def refused(server: Server, response: httpx.Response) -> InputError:
    """The error for an answer that another try would not change."""
    found = status(response)
    if "JSON compliant" in found:  # vLLM, when it would have to write NaN
        return InputError(
            "the model gives a log-probability that is no finite number",
            field=str(server),
            found=found,
            remedy="serve the model in float32 or bfloat16, and check its weights",
        )
    return refusal(server, response, "check that the server serves this very model, with its whole context")
