"""The one place that strips credentials from whatever is printed, logged, recorded or published. [ours]

Secrets are what stands before the @ of an address, a query's key or token, a Bearer token, tokens in the form of the
Hub's and of OpenAI's, and the values of the environment's variables that hold keys. Errors, messages, JSON files and
provenance pass through here (`curate.base.errors`, `progress`, `files`), so that no caller has to think of it.
"""

from __future__ import annotations

import os
import re
from functools import cache
from typing import Any

HIDDEN = "***"
SHORTEST = 8  # characters: a shorter value of the environment ("EMPTY", "none") is a word that stands elsewhere too
_NAMES = r"api_?key|key|token|secret|password|passwd|passphrase|credentials?|signature|auth"
_VARIABLE = re.compile(r"(?:.*_)?(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)", re.IGNORECASE)
_SECRET_NAME = re.compile(rf"(?:.*[_-])?(?:{_NAMES})s?", re.IGNORECASE)
_ADDRESS_NAME = re.compile(r"(?:.*_)?(?:url|uri|endpoint|address|proxy)s?", re.IGNORECASE)
_USER = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]*://)"
    r"(?:[^\s/?#@'\"]*@(?=[^\s@]*(?:[\s'\"]|$))"  # user:password@host
    r"|(?![^\s:/@]*:\d+(?:[/?#'\",\s\])]|$))[^\s:/@'\"]*:\S*@)"  # a password with / or @ in it; not host:8000/a@b
)
_QUERY = re.compile(rf"([?&;][\w.-]*?(?:{_NAMES}|sig)=)[^&\s'\"<>]+", re.IGNORECASE)
_BEARER = re.compile(r"(\bBearer\s+)[!-~]+", re.IGNORECASE)
_TOKEN = re.compile(r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[\w-]{16,})")


def redacted(text: str) -> str:
    """`text` without what may be a credential."""
    for value in _environment():
        text = text.replace(value, HIDDEN)
    if "://" in text:
        text = _USER.sub(rf"\1{HIDDEN}@", text)
    if "=" in text:
        text = _QUERY.sub(rf"\1{HIDDEN}", text)
    text = _BEARER.sub(rf"\1{HIDDEN}", text)
    return _TOKEN.sub(HIDDEN, text)


def redacted_address(text: str) -> str:
    """A text that is meant as an address, whatever its form: nothing before its last @ stays but the scheme."""
    scheme, separator, rest = text.rpartition("://") if "@" not in text.partition("://")[0] else ("", "", text)
    if "@" in rest:
        text = f"{scheme}{separator}{HIDDEN}@{rest.rpartition('@')[2]}"
    return redacted(text)


def redacted_value(value: Any, name: str = "") -> Any:
    """JSON-able `value` with every string in it redacted; what is called a key, a token, a password goes whole.

    Args:
        name: what the value is called: addresses are read as such.
    """
    if isinstance(value, dict):
        return {
            redacted(key) if isinstance(key, str) else key: redacted_value(
                part, str(key) if _named(str(key)) or not _named(name) else name
            )
            for key, part in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted_value(part, name) for part in value]
    if not isinstance(value, str):
        return value
    if _SECRET_NAME.fullmatch(name) and not _HARMLESS.fullmatch(name):
        return HIDDEN
    return redacted_address(value) if _ADDRESS_NAME.fullmatch(name) else redacted(value)


def _named(name: str) -> bool:
    return bool(_SECRET_NAME.fullmatch(name) or _ADDRESS_NAME.fullmatch(name))


_HARMLESS = re.compile(
    r"(?:prompt|pad|eos|bos|unk|cls|sep|mask|stop|special)_?(?:key|token)s?|tokens?|keys?", re.IGNORECASE
)
"""Names of this field that only look like those of secrets."""


def _environment() -> list[str]:
    """Values of the environment's variables that hold keys, the longest first."""
    found = {os.environ[name].strip() for name in os.environ if _holds_a_key(name)}
    return sorted((value for value in found if len(value) >= SHORTEST), key=len, reverse=True)


@cache
def _holds_a_key(variable: str) -> bool:
    """Asked of every variable for every text."""
    return bool(_VARIABLE.fullmatch(variable))
