"""Which model exactly: a name becomes a folder on this machine, a commit and a digest of the weights."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from curate.base import files, limits
from curate.base.errors import InputError, UsageError, causes, few, first_line
from curate.base.progress import say
from curate.base.public import last_part
from curate.models import adapters
from curate.models.faults import check_digest
from curate.models.softcap import capped
from curate.project.params import ModelParams

REFERENCE_FILE = "reference.json"
SCRATCH = "scratch"
"""What a record calls the model that lies beside it, trained from scratch."""
UNBOUNDED = 2**30
"""The context of a model whose files name none (a recurrent state, ALiBi): no length is beyond it."""
CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "context_length", "n_ctx")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_TOKENIZER_FILES = (
    *("tokenizer*", "*.jinja", "additional_chat_templates/*.jinja", "chat_template.json", "special_tokens_map.json"),
    *("added_tokens.json", "*.model", "*.tiktoken", "vocab*", "merges.txt"),
)
MODEL_FILES = ("*config.json", "*.safetensors", "*.safetensors.index.json", *_TOKENIZER_FILES)
"""Names in a model's folder, as transformers saves it; * stands for anything."""
REFERENCE = files.Folder((REFERENCE_FILE,), MODEL_FILES)
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.py"]


class Model(NamedTuple):
    """A causal language model on this machine."""

    name: str  # as the user wrote it, or what reference.json says
    commit: str | None  # of the Hub repository; None for a local folder
    path: Path  # folder with config.json, *.safetensors and the tokenizer
    digest: str  # sha256 over config.json, the weights and trusted code, hex: what the score store goes by
    context: int  # longest sequence, tokens; UNBOUNDED where neither config.json nor the tokenizer names one
    trust_remote_code: bool = False
    adapter: Path | None = None  # folder of a LoRA adapter that `path` is the base of: merged when it is loaded
    stamp: tuple[tuple[str, int, int, int], ...] = ()  # of the files under `digest`, taken before they were read

    @property
    def tokenizer(self) -> Path:
        """The folder of the tokenizer: the adapter's own where it brings one."""
        return self.adapter if self.adapter and (self.adapter / "tokenizer_config.json").is_file() else self.path

    @property
    def folder(self) -> Path:
        """The folder that `resolve` takes for this very model."""
        return self.adapter or self.path

    @property
    def tokenizer_digest(self) -> str:
        """sha256 over the files that turn conversations into tokens and end an answer, hex: no part of `digest`, for
        the score store goes by the tokens themselves."""
        digest = hashlib.sha256()
        folders = ((self.tokenizer, _TOKENIZER_FILES), (self.path, ("generation_config.json",)))
        for folder, names in folders:
            for file in sorted({file for name in names for file in folder.glob(name) if file.is_file()}):
                digest.update(f"{file.relative_to(folder).as_posix()} {_content_digest(file)}\n".encode())
        return digest.hexdigest()[:32]

    def record(self) -> dict[str, Any]:
        """What provenance says of the model: a Hub id, or of a folder its last part."""
        name = self.name if self.commit else last_part(self.name)
        context = None if self.context == UNBOUNDED else self.context
        digests = {"digest": self.digest, "tokenizer": self.tokenizer_digest}
        return {"name": name, "commit": self.commit, **digests, "context": context}


def is_hub_id(name: str) -> bool:
    """Whether `name` is in the form owner/name, which no path that starts with a sign is."""
    return bool(_HUB_ID.fullmatch(name))


def resolve(name: str | Path, revision: str | None = None, *, trust_remote_code: bool = False) -> Model:
    """The model that `name` means: a folder with a model or a LoRA adapter, one with our reference.json, or a Hub id.

    Args:
        trust_remote_code: whether code that comes with the model may run. No file in a folder has a say in it, and the
            reference.json of a folder that holds a model names that model alone.

    Raises:
        InputError: no such folder, no safetensors weights, no tokenizer, or a Hub id that cannot be had.
        UsageError: a revision of a folder.
    """
    folder = Path(name)
    if folder.is_dir():
        if revision:
            raise UsageError(
                "a folder has no revision",
                file=folder,
                found=revision,
                remedy="leave the revision out; or name a model of the Hub, from where no folder is called as it is",
            )
        if (folder / REFERENCE_FILE).is_file():
            return _from_reference(folder, trust_remote_code)
        return _describe(str(name), None, folder, trust_remote_code)
    if folder.exists():
        raise InputError(
            "a model is a folder, not a file", file=folder, remedy="give the folder that holds config.json"
        )
    if not is_hub_id(str(name)):
        raise InputError(
            "no such model",
            found=str(name),
            expected="a folder that exists, or a Hub id (owner/name)",
            remedy="check the path; `curate reference --out DIR` trains a small model from scratch",
        )
    path = download(str(name), revision)
    return _describe(str(name), path.name, path, trust_remote_code)


def resolve_given(name: str, revision: str | None = None, *, trust_remote_code: bool = False) -> Model:
    """`resolve`, of a name that somebody gave a command: a model from scratch is called by its folder, which the next
    command takes, and not `scratch`, as in a project, where it lies in data/reference."""
    model = resolve(name, revision, trust_remote_code=trust_remote_code)
    return model._replace(name=name) if model.name == SCRATCH else model


def write_reference(folder: str | Path, params: ModelParams, at: str | Path | None = None) -> Model:
    """Write `folder`/reference.json, the record of the model that later stages score and train from.

    For `scratch` the model lies in `folder` itself; any other is named, resolved to a commit and not copied. A relative
    path is recorded from `at`, where the folder will stand, so that project and model can move together.
    """
    folder = Path(folder)
    scratch = params.name == SCRATCH
    model = (
        _describe(SCRATCH, None, folder, False)
        if scratch
        else resolve(params.name, params.revision, trust_remote_code=params.trust_remote_code)
    )
    if scratch or model.commit:
        path = "." if scratch else params.name
    else:
        is_absolute = Path(params.name).is_absolute()
        path = str(model.folder.resolve()) if is_absolute else os.path.relpath(model.folder, at or folder)
    record = model.record() | {"path": path, "trust_remote_code": model.trust_remote_code}
    files.write_json(record, folder / REFERENCE_FILE)
    return model


def _from_reference(folder: Path, trust_remote_code: bool) -> Model:
    file = folder / REFERENCE_FILE
    record = files.read_json_object(file)
    for key in ("name", "digest", "path"):
        if not isinstance(record.get(key), str):
            raise InputError(
                "not a reference record", file=file, field=key, expected="text", remedy="run the reference stage again"
            )
    name, digest, where = (str(record[key]) for key in ("name", "digest", "path"))
    commit = record.get("commit")
    if where == ".":
        model = _describe(name, None, folder, trust_remote_code)
    elif (folder / "config.json").exists():
        raise InputError(
            "the folder holds a model, and a record that names another",
            file=file,
            found=where,
            remedy=f"remove {REFERENCE_FILE} to use the model in the folder, or name the other one",
        )
    elif isinstance(commit, str) and is_hub_id(name):
        model = _describe(name, commit, download(name, commit), trust_remote_code)
    else:
        named = Path(os.path.abspath(folder / where))  # noqa: PTH100  (resolve() would follow a link)
        model = _describe(name, None, files.existing(named, "run the reference stage again"), trust_remote_code)
    if model.digest != digest and record.get("trust_remote_code") is True and not trust_remote_code:
        raise InputError(
            "the model was recorded with Python code of its own, which you have not allowed to run",
            file=file,
            remedy="if you trust it: --trust-remote-code, or model.trust_remote_code",
        )
    check_digest(
        "the model has changed since the reference stage recorded it",
        model.path,
        model.digest,
        digest,
        remedy="run the reference stage again (every score will be computed anew)",
    )
    if (recorded := record.get("tokenizer")) is not None:  # a record of before has none
        check_digest(
            "the tokenizer or its chat template has changed since the reference stage recorded the model",
            model.tokenizer,
            model.tokenizer_digest,
            str(recorded),
            remedy="run the reference stage again (what is rendered as before is not scored again)",
        )
    return model


def _describe(name: str, commit: str | None, path: Path, trust_remote_code: bool) -> Model:
    config = path / "config.json"
    adapted = (path / adapters.CONFIG).is_file()
    if adapted and config.is_file():
        raise InputError(
            "a whole model and an adapter in one folder",
            file=path,
            found=f"config.json and {adapters.CONFIG}",
            expected="one of them: transformers would load both, and what the adapter adds is in no digest",
            remedy=f"move {adapters.CONFIG} and {adapters.WEIGHTS} to a folder of their own, and name the one you mean",
        )
    if adapted:
        base_name, revision = adapters.base_of(path)
        if (Path(base_name) / adapters.CONFIG).is_file():
            raise InputError("an adapter's base is an adapter", file=path / adapters.CONFIG, found=last_part(base_name))
        base = resolve(base_name, None if Path(base_name).is_dir() else revision, trust_remote_code=trust_remote_code)
        stamp = base.stamp + _stamp(_adapter_files(path))
        both = adapters.digest_over(base.digest, path)
        return base._replace(name=name, commit=commit, digest=both, adapter=path, stamp=stamp)
    if not config.is_file():
        run = path / "model"
        raise InputError(
            "no model here",
            file=path,
            found="no config.json",
            expected="a transformers model folder",
            remedy=f"give {run}" if (run / "config.json").is_file() else None,
        )
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        raise InputError(
            "no safetensors weights here",
            file=path,
            found=few(sorted(p.name for p in path.iterdir()), 12) or "an empty folder",
            expected="*.safetensors (pickled weights can run code and are not read)",
            remedy="convert them: model.save_pretrained(folder) with a recent transformers",
        )
    described = files.read_json_object(config)
    digest = hashlib.sha256()
    read = _model_files(path, trust_remote_code)
    stamp = _stamp(read)
    for file in read:
        digest.update(f"{file.relative_to(path)} {_content_digest(file)}\n".encode())
    if capped(described):  # what was computed before caps were heeded is another model's
        digest.update(b"soft-capped attention\n")
    context = _context(described, path)
    return Model(name, commit, path, digest.hexdigest()[:32], context, trust_remote_code, stamp=stamp)


def _model_files(path: Path, trust_remote_code: bool) -> list[Path]:
    # Code that comes with the model can change its numbers as well as the weights can.
    code = sorted(path.rglob("*.py")) if trust_remote_code else []
    return [*path.glob("config.json"), *sorted(path.glob("*.safetensors")), *code]


def _adapter_files(path: Path) -> list[Path]:
    return [path / adapters.CONFIG, path / adapters.WEIGHTS]


def _stamp(paths: list[Path]) -> tuple[tuple[str, int, int, int], ...]:
    """Name, bytes, time of change and inode: what is rewritten or replaced has another.

    Raises:
        InputError: a link to nothing, or to itself.
    """
    remedy = "it is a link to nothing: copy the model with the files that its links name (cp -rL)"
    stats = ((path.name, files.existing(path, remedy).stat()) for path in paths)
    return tuple((name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in stats)


def check_loaded(model: Model) -> None:
    """To be called once the weights are in memory: whether they are those of the digest, under which numbers are kept.

    Raises:
        InputError: the files were changed meanwhile.
    """
    files_now = _model_files(model.path, model.trust_remote_code)
    if _stamp([*files_now, *(_adapter_files(model.adapter) if model.adapter else [])]) == model.stamp:
        return
    check_digest(
        "the model was changed between being looked at and being loaded",
        model.folder,
        _describe(model.name, model.commit, model.folder, model.trust_remote_code).digest,
        model.digest,
        remedy="run the same command again, once nothing writes there",
    )


def _context(described: dict[str, Any], path: Path) -> int:
    """Tokens: what config.json names, else the tokenizer's limit, else `UNBOUNDED`."""
    text = described.get("text_config", described)
    sizes = text if isinstance(text, dict) else {"max_position_embeddings": 0}
    named = next((sizes[key] for key in CONTEXT_KEYS if sizes.get(key) is not None), None)
    if named is None:
        tokenizer = path / "tokenizer_config.json"
        named = files.read_json_object(tokenizer).get("model_max_length") if tokenizer.is_file() else None
        if not isinstance(named, (int, float)) or not 0 < named < UNBOUNDED:  # transformers writes 1e30 for "none"
            return UNBOUNDED
        named = int(named)
    if not isinstance(named, int) or isinstance(named, bool) or named < 1:
        raise InputError(
            "config.json does not say how long a sequence may be",
            file=path / "config.json",
            field="max_position_embeddings",
            expected="a whole number of tokens",
        )
    return named


def parameters(model: Model) -> int:
    """How many numbers the model's weights are. Raises `InputError` as `shapes` does."""
    return sum(map(math.prod, shapes(model.path)))


def shapes(folder: Path) -> Iterator[list[int]]:
    """Of every weight, from the heads of the safetensors files. Raises `InputError` where one cannot be read."""
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                head = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            yield from (entry["shape"] for name, entry in head.items() if name != "__metadata__")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError, OverflowError) as error:
            raise InputError("cannot read the model's weights", file=path, found=type(error).__name__) from error


def _content_digest(file: Path) -> str:
    """sha256 of the file; in the Hub's own cache a large file is a link to a blob that is named by it."""
    limits.check_regular(file, any_size=True)  # (nor a link to itself)
    if file.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", (blob := file.resolve()).name):
        from huggingface_hub import constants

        if blob.is_relative_to(Path(constants.HF_HUB_CACHE).resolve()):
            return blob.name
    return files.file_digest(file)


def download(name: str, revision: str | None) -> Path:
    """The snapshot folder of a Hub model; what is in the cache is not fetched again."""
    return snapshot(name, revision, "model", _HUB_FILES)


def snapshot(name: str, revision: str | None, kind: str, patterns: Sequence[str]) -> Path:
    """The folder in the cache that has what `patterns` name of the Hub's repository; raises as `_asked`.

    Where the Hub does not answer, or refuses, what the cache has of the revision is taken, which is said: the Hub may
    have another commit of it since.
    """

    def ask(hub: Any) -> Path:
        get = partial(hub.snapshot_download, name, repo_type=kind, revision=revision, etag_timeout=10)
        try:
            if not hub.constants.HF_HUB_OFFLINE and not re.fullmatch("[0-9a-f]{40}", revision or ""):
                hub.HfApi().repo_info(name, repo_type=kind, revision=revision or "main", timeout=10)
        except hub.errors.RevisionNotFoundError:
            raise
        except Exception as error:
            try:
                folder = Path(get(allow_patterns=patterns, local_files_only=True))
            except Exception:  # (the Hub's answer is what is told)
                raise error from None
            why = first_line(error).partition(" for url")[0]
            say(f"the Hub does not give {kind} {name} ({why}): commit {folder.name} is used, from the cache")
            return folder
        return Path(get(allow_patterns=patterns))

    return _asked(name, revision, kind, ask)


def _asked(name: str, revision: str | None, kind: str, call: Callable[[Any], Path]) -> Path:
    """Run a Hub request; every way in which it fails becomes an `InputError` that says what to do."""
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise InputError(
            "reading from the Hub needs huggingface_hub", remedy="pip install 'curate-preferences[hub]'"
        ) from error
    try:
        return call(huggingface_hub)
    except errors.GatedRepoError as error:
        what, remedy = (
            "this Hub repository is gated",
            f"accept its terms on its page and log in: hf auth login ({error.__class__.__name__})",
        )
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        what, remedy = (
            "no such Hub repository, or no permission",
            "check the id; for a private one: hf auth login",
        )
    except errors.RevisionNotFoundError:
        what, remedy = "no such revision on the Hub", f"check the {kind}'s revision"
    except Exception as error:  # a proxy that is no address, or of a kind that is not installed, has its own
        answers = (getattr(getattr(cause, "response", None), "status_code", None) for cause in causes(error))
        status = next((answer for answer in answers if answer is not None), None)
        what = "the Hub cannot be reached" if status is None else f"the Hub answers with HTTP {status}"
        led = error.__cause__ or error
        why = "" if status else f": {first_line(led)}"
        remedy = f"check the network, its proxy and HF_ENDPOINT, or give a local folder ({type(led).__name__}{why})"
        if status in (401, 403):
            what, remedy = "the Hub refuses the token", "set HF_TOKEN to a valid token, or: hf auth login"
        elif status == 429 or (status or 0) >= 500:
            remedy = "try again later, or give a local folder"
        elif huggingface_hub.constants.HF_HUB_OFFLINE:
            what, remedy = "not in the cache, and HF_HUB_OFFLINE is set", "unset it to ask the Hub"
    raise InputError(what, found=f"{kind} {name}" + (f" at {revision}" if revision else ""), remedy=remedy) from None
