"""An HTTP endpoint that somebody runs: its address, the key for it, what its answers mean, and how long to wait."""

from __future__ import annotations

import json
import math
import os
import random
import re
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from curate.base.errors import InputError, UsageError
from curate.base.passing import IN_PASSING, NOT_DONE, retry_after

try:
    import httpx
except ImportError as error:
    raise InputError("asking a server needs httpx", remedy="pip install 'curate-preferences[server]'") from error

KEY_VARIABLES = ("CURATE_SERVER_KEY", "OPENAI_API_KEY")  # the first that is set is sent as a Bearer token
LONGEST_REST = 60.0  # seconds between two tries, unless the server asks for more
CONNECT_SECONDS = 30.0
TELL_SECONDS = 10.0  # a longer rest is told
WAKE_SECONDS = 0.5  # between two looks whether the user has had enough

T = TypeVar("T")


class Endpoint:
    """One server: where it is, and how it has been doing. Times are those of an event loop, seconds."""

    def __init__(self, url: str) -> None:
        """Raises `UsageError` where `url` is no address like http://host:8000/v1; `/v1` may be left out."""
        text = url.strip()
        label = re.sub(r"^(\w+://)?.*@", r"\1", text)  # without user and password
        try:
            parsed = httpx.URL(text)
            usable = parsed.scheme in ("http", "https") and bool(parsed.host) and "?" not in text and "#" not in text
        except httpx.InvalidURL:
            usable = False
        if not usable:
            raise UsageError("not the address of a server", found=label, expected="one, like http://host:8000/v1")
        self.label, self.root = (address.rstrip("/").removesuffix("/v1") for address in (label, text))
        self.fault = ""  # the last
        self.strikes = 0  # failures since the last success; requests that were out together count as one
        self.struck = -math.inf  # when the last of them was
        self.resumes = -math.inf  # when it may be asked again
        self.answered = 0  # requests, so far
        self.dropped = False  # it has failed too often in a row

    def __str__(self) -> str:
        return f"server {self.label}"

    def strike(self, reason: str, *, started: float, now: float, rest: float, backoff: float) -> bool:
        """Note a failure of a request sent at `started` and let the server rest; whether it counts as a new one.

        Args:
            rest: seconds that the server asks for.
            backoff: seconds of the first rest, about; each further one is twice as long.
        """
        self.fault = reason
        self.resumes = max(self.resumes, now + rest)
        if started < self.struck:
            return False
        self.strikes += 1
        self.struck = now
        pause = min(backoff * 2.0 ** (self.strikes - 1), LONGEST_REST) * random.uniform(0.5, 1.0)
        self.resumes = max(self.resumes, now + pause)
        return True

    async def post(self, client: httpx.AsyncClient, path: str, body: Any, timeout: float) -> httpx.Response:
        """The answer to `body` as JSON, whatever its status, unless that may pass.

        Raises:
            Fault: no answer, or one that may be another at the next try.
        """
        # ASCII, so that half of a surrogate pair in a text can be sent at all.
        content, type_ = json.dumps(body), {"Content-Type": "application/json"}
        try:
            response = await client.post(self.root + path, content=content, headers=type_)
        except httpx.TimeoutException:
            raise Fault(f"no answer within {timeout:g} s") from None
        except httpx.RequestError as error:
            raise Fault(shown(str(error) or type(error).__name__)) from None
        return _lasting(response)

    def get(self, client: httpx.Client, path: str) -> httpx.Response:
        """As `post`, asking for `path`."""
        try:
            response = client.get(self.root + path)
        except httpx.RequestError as error:
            raise Fault(shown(str(error) or type(error).__name__)) from None
        return _lasting(response)


def outcome(future: Future[T]) -> T:
    """What work on another thread's event loop comes to; it is cancelled when this thread is interrupted.

    A signal may be taken by that thread, and this one then notices it only when it wakes: it wakes now and then.
    """
    try:
        while not wait([future], timeout=WAKE_SECONDS).done:
            pass
        return future.result()
    except BaseException:
        future.cancel()
        raise


class Fault(Exception):
    """A failure that may pass."""

    def __init__(self, reason: str, rest: float = 0.0, busy: bool = False) -> None:
        super().__init__(reason)
        self.rest = rest  # seconds the server asks for
        self.busy = busy


def _lasting(response: httpx.Response) -> httpx.Response:
    if response.status_code in IN_PASSING:
        raise Fault(status(response), retry_after(response.headers) or 0.0, response.status_code in NOT_DONE)
    return response


def client(timeout: float) -> httpx.Client:
    """A client with the key. Raises as `key`."""
    return httpx.Client(headers=headers(), timeout=timeout)


def async_client(timeout: float) -> httpx.AsyncClient:
    """A client with the key, for as many requests at once as are asked of it. Raises as `key`."""
    return httpx.AsyncClient(
        headers=headers(),
        timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS), pool=None),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
    )


def key() -> str:
    """The servers' key, or nothing.

    Raises:
        UsageError: it holds what no HTTP header may; the message does not show it.
    """
    name = next((name for name in KEY_VARIABLES if os.environ.get(name)), None)
    found = os.environ[name].strip() if name else ""
    if not re.fullmatch(r"[!-~]*", found):
        raise UsageError("the servers' key holds spaces or other characters that no key has", field=name)
    return found


def headers() -> dict[str, str]:
    found = key()
    return {"Authorization": f"Bearer {found}"} if found else {}


def shown(text: str) -> str:
    """The start of a foreign text, as it may be shown to a person: without the key."""
    found = key()
    return " ".join((text.replace(found, "***") if found else text).split())[:300]


def message(response: httpx.Response) -> str:
    """The server's own words about a failure, as they may be shown; nothing where it has none."""
    try:
        body = response.json()
        error = body.get("error", body)
        said = error if isinstance(error, str) else error.get("message") or error.get("detail") or ""
    except (ValueError, AttributeError):
        said = response.reason_phrase  # no JSON: a gateway's page
    return shown(str(said))


def status(response: httpx.Response) -> str:
    """HTTP status and the server's own message."""
    said = message(response)
    return f"HTTP {response.status_code}" + (f": {said}" if said else "")


def refusal(endpoint: Endpoint, response: httpx.Response, remedy: str) -> InputError:
    """The error for an answer that another try would not change; `remedy` where key and address seem right."""
    if response.status_code in (401, 403):
        # Some servers repeat the key in the message.
        return InputError(
            "the server refuses the key" if key() else "the server wants a key",
            field=str(endpoint),
            found=f"HTTP {response.status_code}",
            remedy=f"set {KEY_VARIABLES[0]} to the server's key",
        )
    return InputError(
        "the server refuses the request",
        field=str(endpoint),
        found=status(response),
        remedy="check the address and the served model's name" if response.status_code == 404 else remedy,
    )
