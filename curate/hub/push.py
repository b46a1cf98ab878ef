"""A folder to a dataset repository, as one commit on what was there when we looked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, errors
from huggingface_hub.hf_api import RepoFile

from curate.base.errors import OutputError, few
from curate.base.files import file_digest
from curate.base.progress import say
from curate.hub.card import CARD
from curate.hub.client import status_of, unanswered
from curate.pairs.manifest import MANIFEST, read

KIND = "dataset"


class Remote(NamedTuple):
    """A repository as it was at one commit."""

    commit: str
    private: bool
    files: Mapping[str, RepoFile]
    card: str  # empty where there is none
    ours: frozenset[str]  # files that our last commit put there


class Pushed(NamedTuple):
    commit: str
    private: bool
    changed: list[str]  # files that the commit added, changed or removed; empty where nothing was committed


def open_repository(api: HfApi, repo: str, public: bool) -> Remote:
    """The repository as it is; made, empty, where it is not there.

    An existing one keeps its visibility.

    Raises:
        OutputError: it is public and we were not told to publish openly; something else has its name.
    """
    info = _info(api, repo)
    if info is None:
        try:
            api.create_repo(repo, repo_type=KIND, private=not public)
            say(f"made {'public' if public else 'private'} dataset repository {repo}")
        except errors.HfHubHTTPError as error:
            if status_of(error) == 403:
                raise OutputError(
                    "the token may not make a dataset there",
                    file=f"hub:{repo}",
                    found=_who(api),
                    remedy="name an owner that the token may write to, or use another token",
                ) from None
            if status_of(error) != 409:
                raise
        info = _info(api, repo)  # made by us; or by another in the meantime, or by a request of ours that seemed lost
        if info is None:
            raise OutputError(
                "the name is taken, by a repository of another type or one that the token may not see",
                file=f"hub:{repo}",
                remedy="choose another name",
            )
    if not info.private and not public:
        raise OutputError(
            "the repository is public, and you did not say that the data may be",
            file=f"hub:{repo}",
            remedy="--public (publish.public), or make the repository private on its settings page",
        )
    if info.private and public:
        say(f"{repo} is private and stays so; its settings page can change that")
    tree = api.list_repo_tree(repo, repo_type=KIND, recursive=True, revision=info.sha)
    files = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}

    ours: frozenset[str] = frozenset()
    if MANIFEST in files:
        path = Path(api.hf_hub_download(repo, MANIFEST, repo_type=KIND, revision=info.sha))
        ours = frozenset([*read(path, f"hub:{repo}").files, MANIFEST])
    card = _card(api, repo, str(info.sha)) if CARD in files else ""
    return Remote(str(info.sha), bool(info.private), files, card, ours)


def _card(api: HfApi, repo: str, revision: str) -> str:
    path = api.hf_hub_download(repo, CARD, repo_type=KIND, revision=revision)
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OutputError(
            "the repository's card is not UTF-8 text, and would not be kept as it is",
            file=f"hub:{repo}",
            field=CARD,
            found=error,
            remedy="mend it on the Hub; nothing was sent",
        ) from error


def push(api: HfApi, repo: str, folder: Path, remote: Remote, message: str) -> Pushed:
    """Commit what in `folder` differs from `remote`; what our last commit had and `folder` has not goes.

    Nothing is committed where nothing differs. Files that are not ours are neither changed nor removed.

    Raises:
        OutputError: a file of somebody else's stands where one of ours goes.
    """
    changed, gone = differences(folder, remote)
    foreign = [name for name in changed if name in remote.files and name not in remote.ours and name != CARD]
    if foreign:
        raise OutputError(
            "files that curate did not publish stand where ours go, and would be lost",
            file=f"hub:{repo}",
            field=few(foreign),
            remedy="choose another repository, or remove them there",
        )
    if not changed and not gone:
        return Pushed(remote.commit, remote.private, [])
    operations: list[Any] = [CommitOperationAdd(name, folder / name) for name in changed]
    operations += [CommitOperationDelete(name) for name in gone]
    try:
        made = api.create_commit(repo, operations, commit_message=message, repo_type=KIND, parent_commit=remote.commit)
    except Exception as error:
        landed = _landed(api, repo, folder, remote) if unanswered(error) or status_of(error) == 412 else None
        if landed is None:
            raise
        return Pushed(landed, remote.private, [*changed, *gone])
    return Pushed(made.oid, remote.private, [*changed, *gone])


def differences(folder: Path, remote: Remote) -> tuple[list[str], list[str]]:
    """(files of `folder` that the repository has otherwise or not at all, files of ours that `folder` lacks)."""
    local = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    changed = [name for name, path in local.items() if not _same(path, remote.files.get(name))]
    gone = sorted(name for name in remote.ours & set(remote.files) if name not in local)
    return changed, gone


def _same(path: Path, there: RepoFile | None) -> bool:
    if there is None or there.size != path.stat().st_size:
        return False
    if there.lfs is not None:
        return bool(there.lfs.sha256 == file_digest(path))
    content = path.read_bytes()
    return bool(there.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest())


def _landed(api: HfApi, repo: str, folder: Path, remote: Remote) -> str | None:
    """The head of the repository where it has our files: a commit whose answer was lost."""
    try:
        info = api.dataset_info(repo)
        if info.sha == remote.commit:
            return None
        tree = api.list_repo_tree(repo, repo_type=KIND, recursive=True, revision=info.sha)
        now = remote._replace(files={entry.path: entry for entry in tree if isinstance(entry, RepoFile)})
    except Exception:  # whatever it is, the first failure is the one to tell
        return None
    return str(info.sha) if differences(folder, now) == ([], []) else None


def _info(api: HfApi, repo: str) -> Any:
    try:
        return api.dataset_info(repo)
    except errors.HfHubHTTPError as error:
        if status_of(error) == 404:
            return None
        raise


def _who(api: HfApi) -> str:
    """Whose token it is and where it may write, as far as the Hub says."""
    ask: Callable[[], Any] = api.whoami
    try:
        answer = ask()
    except Exception:
        return "HTTP 403"
    owners = [answer.get("name"), *(org.get("name") for org in answer.get("orgs", []))]
    return f"a token of {owners[0]}" + (f", in {', '.join(map(str, owners[1:]))}" if owners[1:] else "")
