"""Speaking with the Hub: patience with a busy one, an end to it, and every failure in one sentence without secrets."""

from __future__ import annotations

import re
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from curate.base.credentials import redacted
from curate.base.errors import CurateError, OutputError, causes
from curate.base.passing import IN_PASSING, NOT_DONE, retry_after
from curate.base.progress import console, say

try:
    import httpx2
    import huggingface_hub as hub
    from huggingface_hub import errors
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
        get_session,
        parse_ratelimit_headers,
        set_client_factory,
    )
    from huggingface_hub.utils._http import default_client_factory
except ImportError as error:
    raise OutputError("publishing needs huggingface_hub", remedy="pip install 'curate-preferences[hub]'") from error

UNREACHED = (httpx2.TransportError, httpx2.InvalidURL, ImportError, ConnectionError, TimeoutError)
"""ImportError: a proxy of a kind that needs a package; the last two are of hf_xet, which sends the files."""
FAILURES = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)
TIMEOUT = httpx2.Timeout(300, connect=30, pool=None)  # seconds without a byte
LONGEST_REST = 30.0  # seconds between two tries, unless the Hub asks for more
TELL_SECONDS = 5.0  # a longer rest is told
AGAIN = "run the same command again: what has arrived is not sent again"


class GaveUp(Exception):
    """The Hub was busy or out of reach for longer than we wait; `status` is None where it did not answer."""

    def __init__(self, status: int | None, found: str) -> None:
        super().__init__(found)
        self.status = status


class _Patient(httpx2.Client):
    """Tries again what failed in passing, until `patience` seconds after the first failure; then `GaveUp`.

    huggingface_hub tries some requests again itself, five times and as long as it is told to wait; others never.
    Here there is one bound for all. A commit is never sent twice on a failure whose outcome is not known.
    """

    def __init__(self, patience: float, **options: Any) -> None:
        super().__init__(**options)
        self._patience = patience
        self._failing: dict[str, tuple[float, float]] = {}  # address -> first failure, last rest; seconds
        self._lock = threading.Lock()

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        address = str(request.url)
        # A body that was read from a file is spent; huggingface_hub, which has the file, sends it again itself.
        repeatable = isinstance(request.stream, httpx2.ByteStream)
        commits = "/commit/" in request.url.path
        while True:
            try:
                response = super().send(request, **options)
            except FAILURES as error:
                rest = self._rest(address, None, None, f"{type(error).__name__}: {error}")
                if commits or not repeatable:
                    raise
            else:
                status = response.status_code
                if status not in IN_PASSING:
                    self._failing.pop(address, None)
                    return response
                rest = self._rest(address, _told(response.headers), status, f"HTTP {status}")
                if not repeatable or (commits and status not in NOT_DONE):
                    return response
                response.close()
            time.sleep(rest)

    def _rest(self, address: str, told: float | None, status: int | None, found: str) -> float:
        """Seconds until the next try. Raises `GaveUp` where that lies beyond our patience."""
        with self._lock:
            now = time.monotonic()
            first, last = self._failing.get(address, (now, 0.5))
            rest = max(min(2 * last, LONGEST_REST), told or 0)  # (it may ask for 0 s each time)
            if now - first + rest > self._patience:
                asked = f"; it asks to wait {told:.0f} s" if told else ""
                raise GaveUp(status, f"{found}{asked}")
            self._failing[address] = (first, rest)
        if rest >= TELL_SECONDS:
            say(f"the Hub is busy or out of reach ({found}): trying again in {rest:.0f} s")
        return rest


def _told(headers: httpx2.Headers) -> float | None:
    """Seconds that the Hub asks to wait, in either of its ways."""
    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds + 1)
    return retry_after(headers)


def token_for(repo: str) -> str:
    """The token of HF_TOKEN, or of `hf auth login`.

    Raises:
        OutputError: there is none, or it is no token.
    """
    token: str | None = hub.get_token()
    if token is None:
        raise OutputError(
            "publishing needs a token of the Hub, and there is none",
            file=f"hub:{repo}",
            remedy="set HF_TOKEN to a token that may write, or `hf auth login`; --dry-run needs none",
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        # Where it is put into a header, the error would show it.
        raise OutputError(
            "the token holds characters that no token has", file=f"hub:{repo}", field="HF_TOKEN", remedy="set it anew"
        )
    return token


@contextmanager
def talking(repo: str, token: str, patience: float) -> Iterator[hub.HfApi]:
    """The Hub's API for this block; whatever fails in it is an `OutputError` that says what to do.

    Args:
        repo: owner/name, for errors.
        token: appears in no message.
        patience: seconds that a request may fail in passing before it is given up.
    """
    before = hub.logging.get_verbosity()
    bars = not are_progress_bars_disabled()
    if not console.is_terminal:
        disable_progress_bars()
    hub.logging.set_verbosity_error()  # what it would say, with addresses that are signed, we say shorter
    try:
        hooks = get_session().event_hooks
        set_client_factory(lambda: _Patient(patience, event_hooks=hooks, follow_redirects=True, timeout=TIMEOUT))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield hub.HfApi(token=token, library_name="curate")
        for warning in caught:
            if isinstance(warning.message, UserWarning):
                say(_clean(str(warning.message), token))
    except CurateError:
        raise
    except (*UNREACHED, GaveUp, OSError, httpx2.HTTPError, ValueError, RuntimeError) as error:
        raise explain(error, repo, token) from None
    finally:
        hub.logging.set_verbosity(before)
        if bars:
            enable_progress_bars()
        set_client_factory(default_client_factory)


def status_of(error: BaseException) -> int | None:
    """The HTTP status that led to `error`; None where the Hub did not answer."""
    for cause in causes(error):
        if isinstance(cause, GaveUp):
            return cause.status
        if isinstance(cause, errors.HfHubHTTPError) and cause.response is not None:
            return int(cause.response.status_code)
    return None


def unanswered(error: BaseException) -> bool:
    """Whether the Hub's answer is not known: the request may have been carried out."""
    status = status_of(error)
    return any(isinstance(cause, (GaveUp, *FAILURES)) for cause in causes(error)) or bool(status and status >= 500)


def explain(error: Exception, repo: str, token: str) -> OutputError:
    """What failed and what to do."""
    status = status_of(error)
    led = causes(error)
    cause = next((c for c in led if isinstance(c, (GaveUp, errors.HfHubHTTPError, *UNREACHED))), led[-1])
    remedy: str | None
    if any(isinstance(c, errors.OfflineModeIsEnabled) for c in led):
        what, remedy = "the Hub is switched off: HF_HUB_OFFLINE is set", "unset it to publish"
    elif status == 401:
        what, remedy = "the Hub does not accept the token", "set HF_TOKEN to a token that may write, or `hf auth login`"
    elif status == 403:
        what, remedy = "the token may not write there", "use a token with write access to this repository's owner"
    elif status == 404:
        what, remedy = "no such repository, user or organisation, or the token may not see it", "check owner/name"
    elif status in (409, 412):
        what = "somebody else committed to the repository meanwhile; nothing of theirs was overwritten"
        remedy = "run the same command again, on top of what is there now"
    elif status == 429:
        what, remedy = "the Hub's rate limit holds for longer than we wait", f"{AGAIN}; publish.patience waits longer"
    elif status is not None and status >= 500:
        what, remedy = "the Hub fails", AGAIN
    elif status is not None:
        what, remedy = "the Hub refused the request", None
    elif isinstance(cause, (GaveUp, *UNREACHED)):  # an HF_ENDPOINT that is no address is one
        what, remedy = "the connection to the Hub failed", f"check the network, its proxy and HF_ENDPOINT, then {AGAIN}"
    else:
        what, remedy = "publishing failed", None
    found = re.sub(r"\s*\n\s*", " ", str(cause)).strip() or "no message"
    return OutputError(what, file=f"hub:{repo}", found=_clean(f"{type(cause).__name__}: {found}", token), remedy=remedy)


def _clean(text: str, token: str) -> str:
    """`text` without the token, and addresses without their signatures."""
    text = redacted(text.replace(token, "(token)"))
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1", text)
