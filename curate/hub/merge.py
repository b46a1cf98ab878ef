"""Our part of a card into the card that is there: what its owner wrote stays."""

from __future__ import annotations

import re
from typing import Any

import yaml

from curate.base.errors import OutputError
from curate.hub.dataset import PUBLISHED_SUBSETS
from curate.pairs.manifest import DEFAULT

BEGIN = "<!-- curate: what follows is written by `curate publish` and replaced by the next one -->"
END = "<!-- curate: end; what follows is kept -->"
OWNERS = ("pretty_name", "language")
"""Keys that we fill in where they are missing, unless asked to set them."""

_FRONT = re.compile(r"\A\s*---[ \t]*\r?\n((?:.*?\n)??)---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same in C, where libyaml is there
_KEY = re.compile(r"^([A-Za-z_][\w-]*):(?=\s|$)", re.MULTILINE)


class _Plain(yaml.SafeDumper):
    """Without anchors: `datasets` empties what it reads, and an anchor's other places with it."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def merge(existing: str, front: dict[str, Any], body: str, where: str, asked: frozenset[str] = frozenset()) -> str:
    """The card with our YAML keys and our part.

    Outside the two markers nothing changes. Without markers our part comes after what is there. `configs` and
    `dataset_info` keep entries of other names, `tags` other tags.

    Args:
        front, body: of `curate.hub.card`.
        where: names the card in errors.
        asked: those of `OWNERS` that replace the owner's.

    Raises:
        OutputError: the card's YAML cannot be read or has a default configuration, or one marker is there
            without the other.
    """
    head, text = _split(existing)
    ours = f"{BEGIN}\n\n{body.strip()}\n\n{END}"
    begins, ends = text.count(BEGIN), text.count(END)
    if (begins, ends) == (0, 0):
        text = f"{text.rstrip()}\n\n{ours}\n" if text.strip() else f"\n{ours}\n"
    elif (begins, ends) == (1, 1) and text.index(BEGIN) < text.index(END):
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        text = before + ours + after
    else:
        raise OutputError(
            "the markers of our part of the card are not one pair",
            file=where,
            found=f"{begins} beginnings and {ends} ends",
            remedy="delete all of them: our part is then appended",
        )
    return f"---\n{_front(head, front, asked, where)}---\n{text}"


def _split(existing: str) -> tuple[str, str]:
    found = _FRONT.match(existing)
    if found is None:
        return "", existing
    return found[1], existing[found.end() :]


def _front(head: str, front: dict[str, Any], asked: frozenset[str], where: str) -> str:
    """`head` with our keys: their lines are replaced, other lines stay as they are, comments too."""
    try:
        theirs = yaml.load(head, Loader=_LOADER) or {}
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        raise OutputError(
            "the YAML of the repository's card cannot be read",
            file=where,
            found=str(error).replace("\n", " "),
            remedy="mend it on the Hub; nothing was sent",
        ) from error
    if not isinstance(theirs, dict):
        raise OutputError("the YAML of the repository's card is no mapping", file=where, found=type(theirs).__name__)
    wanted = dict(theirs)
    for key, value in front.items():
        if key not in theirs or key not in OWNERS or key in asked:
            wanted[key] = _combined(key, value, theirs.get(key))
    also = [entry["config_name"] for entry in wanted.get("configs", []) if entry.get("default")]
    if also:
        raise OutputError(
            "a configuration of the card is the default one, and so is ours: `datasets` would load neither",
            file=where,
            field="configs",
            found=f"default: true, of {also[0]}",
            remedy="take that line off the card, or choose another repository; nothing was sent",
        )
    changed = {key: value for key, value in wanted.items() if key not in theirs or theirs[key] != value}
    text = head
    for key, value in changed.items():
        text = _replaced(text, key, _dumped({key: value}))
    try:
        kept = yaml.load(text, Loader=_LOADER) == wanted
    except yaml.YAMLError:
        kept = False
    # A mapping in braces, a quoted key: what cannot be replaced by lines is written anew.
    return text if kept else _dumped(wanted)


def _dumped(value: dict[str, Any]) -> str:
    return str(yaml.dump(value, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=10**6))


def _combined(key: str, ours: Any, theirs: Any) -> Any:
    if key == "tags":
        given = theirs if isinstance(theirs, list) else [theirs] if theirs else []
        return [*given, *(tag for tag in ours if tag not in given)]
    if key in ("configs", "dataset_info"):
        given = theirs if isinstance(theirs, list) else []
        names = {DEFAULT, *PUBLISHED_SUBSETS}
        named = [entry for entry in given if isinstance(entry, dict)]
        others = [entry for entry in named if entry.get("config_name", DEFAULT) not in names]
        return [*ours, *others]
    return ours


def _replaced(text: str, key: str, block: str) -> str:
    """`text` with the lines of the top-level `key` replaced by `block`; at the end where there is no such key."""
    keys = list(_KEY.finditer(text))
    for position, found in enumerate(keys):
        if found[1] == key:
            end = keys[position + 1].start() if position + 1 < len(keys) else len(text)
            # Comments right above the next key belong to it.
            body = text[found.start() : end]
            kept = re.search(r"(?:^[ \t]*(?:#[^\n]*)?\n)+\Z", body, re.MULTILINE)
            tail = kept[0] if kept and kept.start() > 0 else ""
            return text[: found.start()] + block + tail + text[end:]
    return text + ("" if not text or text.endswith("\n") else "\n") + block
