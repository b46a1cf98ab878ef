"""A weighted file to the Hub: the folder, the licence, the push, the receipt."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from curate import __version__
from curate.base import files
from curate.base.errors import InputError
from curate.base.progress import say
from curate.hub import card, licences
from curate.hub import folder as folders
from curate.pairs.artefact import read_artefact, unchanged
from curate.pairs.belonging import check_of_these_pairs
from curate.pairs.manifest import MANIFEST, read
from curate.project.params import PublishParams

ASK_SECONDS = 10.0


def publish(
    weights: Path,
    repo: str,
    params: PublishParams,
    *,
    prepare: Path | None = None,
    out: Path | None = None,
    receipt: Path | None = None,
) -> dict[str, Any]:
    """Push the weighted pairs to the dataset repository `repo`, as one commit.

    What the repository has already is not sent again, and nothing is committed where nothing differs.

    Args:
        weights: columns schema.PAIRS, SCORES and WEIGHTS; with SPLITS the subsets are configurations of their own.
        prepare: prepare.json of these pairs, for the faults that the source had.
        out: where the folder is kept that is sent; else it is removed.
        receipt: written when all went well, and not before.

    Returns:
        What the receipt holds: repository, commit, url, visibility, files with size and sha256, and when.

    Raises:
        UsageError: the licence is not known, or forbids it (`curate.hub.licences`).
        InputError: `weights` or `prepare` is not what it should be.
        OutputError: the push failed; the repository has either all of it or nothing.
    """
    from curate.hub.client import talking, token_for
    from curate.hub.push import open_repository, push

    token = token_for(repo)
    # Entered before the push: a receipt that cannot be written is found while nothing is sent.
    with ExitStack() as stack:
        written = stack.enter_context(files.replacing(receipt)) if receipt is not None else None
        folder = stack.enter_context(_folder(weights, repo, params, prepare, out))
        with talking(repo, token, params.patience) as api:
            remote = open_repository(api, repo, params.public)
            folder.write_card(remote.card, f"hub:{repo}")
            pairs = _pairs(folder)
            pushed = push(api, repo, folder.path, remote, f"{pairs:,} weighted pairs, by curate {__version__}")
            address = f"{api.endpoint}/datasets/{repo}"
        done = {
            "repository": repo,
            "commit": pushed.commit,
            "url": f"{address}/tree/{pushed.commit}",
            "private": pushed.private,
            "committed": bool(pushed.changed),
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "files": {name: file.model_dump() for name, file in folders.describe(folder.path, _rows(folder)).items()},
        }
        if written is not None:
            files.write_json(done, written)
    what = f"{len(pushed.changed)} files" if pushed.changed else "nothing had changed"
    say(f"publish: {pairs:,} pairs, {what} -> {done['url']} ({'private' if pushed.private else 'public'})")
    return done


def rehearse(
    weights: Path, repo: str, params: PublishParams, *, prepare: Path | None = None, out: Path | None = None
) -> pl.DataFrame:
    """Write what `publish` would send, and send nothing; no token is needed. Arguments and errors as there.

    Returns:
        Columns file, bytes, rows, sha256.
    """
    with _folder(weights, repo, params, prepare, out) as folder:
        folder.write_card("", repo)
        found = folders.describe(folder.path, _rows(folder))
        return pl.DataFrame(
            [(name, file.bytes, file.rows, file.sha256) for name, file in found.items()],
            schema={"file": pl.String, "bytes": pl.Int64, "rows": pl.Int64, "sha256": pl.String},
            orient="row",
        )


@contextmanager
def _folder(
    weights: Path, repo: str, params: PublishParams, prepare: Path | None, out: Path | None
) -> Iterator[folders.Folder]:
    """The folder without its card; it lands in `out` when the block succeeds."""
    prepared = _prepared(prepare) if prepare else {}
    check = unchanged(weights)
    frame = read_artefact(weights, "pairs", "scores", "weights")
    if prepare:
        check_of_these_pairs(prepared, frame, prepare)
    licence = licences.decide(params.license, frame["source"].drop_nulls().unique().to_list(), _ask)

    def write(path: Path) -> folders.Folder:
        folder = folders.write(path, repo, frame, weights, licence, params, prepared)
        check()  # what the manifest says of the file is of the rows that were read
        return folder

    if out is None:
        with tempfile.TemporaryDirectory(prefix="curate-") as path:
            yield write(Path(path))
        return
    with files.replacing(out, _kind(out)) as made:
        made.mkdir()
        yield write(made)


def _kind(out: Path) -> files.Folder:
    """Of a folder that was published; without marks, where `out` is none (a trained model's has a curate.json, too)."""
    try:
        named = read(out / MANIFEST, str(out)).files
    except InputError:
        return files.Folder(())
    return files.Folder((MANIFEST,), (card.CARD, *{PurePosixPath(name).parts[0] for name in named}))


def _prepared(path: Path) -> dict[str, Any]:
    value = files.read_json_object(path)
    rules, marks = value.get("rules"), value.get("marks", {})
    sound = (
        all(_is_count(value.get(name)) for name in ("read", "kept", "rejected"))
        and isinstance(rules, dict)
        and all(
            isinstance(rule, dict) and _is_count(rule.get("count")) and "meaning" in rule for rule in rules.values()
        )
        and isinstance(marks, dict)
        and all(map(_is_count, marks.values()))
    )
    if not sound:
        expected = "JSON with the counts read, kept and rejected, rules and marks"
        raise InputError("not a summary of `curate prepare`", file=path, expected=expected)
    return value


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _ask(source: str) -> str | None:
    """What the card of a Hub dataset states; None where it cannot be had."""
    try:
        import huggingface_hub as hub

        card = hub.HfApi().dataset_info(source, timeout=ASK_SECONDS).card_data
    except Exception as error:  # not installed, no such dataset, no network, no access: all the same here
        say(f"publish: the Hub does not tell the licence of {source} ({type(error).__name__})")
        return None
    stated = card.get("license") if card is not None else None
    stated = stated[0] if isinstance(stated, list) and len(stated) == 1 else stated
    return stated.lower() if isinstance(stated, str) else None


def _rows(folder: folders.Folder) -> dict[str, int]:
    return {name: file.rows for name, file in folder.manifest.files.items() if file.rows is not None}


def _pairs(folder: folders.Folder) -> int:
    rows = _rows(folder)
    return sum(rows[path] for paths in folder.manifest.configs["default"].values() for path in paths)
