"""A project folder outside the repository: its files, made from the repository's own, and how they get there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from curate.base import files
from curate.base.errors import OutputError, UsageError, few
from curate.base.progress import quoted
from curate.project import installed, shipped
from curate.project.params import DataParams, ModelParams, Params, check, is_file, to_yaml
from curate.project.presets import Preset

GITIGNORE = "/.venv/\n/.curate/\n/runs/\n/dvc_plots/\n__pycache__/\n"
KEPT = (".gitignore", ".dvcignore")
"""Files that a project may have already: they stay as they are."""

_HEADER = """\
# From raw preference pairs to trained arms and a report. `curate show` draws it, `dvc repro` runs what is stale.
# Written by `curate init`. The stage `installed` runs each time: it notes digests of the installed package's code
# in curate/, so that another version of the package runs again what it changes, and nothing else.
"""
_INSTALLED = {
    "desc": "what the installed package's code is: each stage depends on its own part of it",
    "cmd": "python -m curate.installed",
    "always_changed": True,
    "outs": [installed.FOLDER],
}


def pipeline() -> dict[str, Any]:
    """The repository's dvc.yaml for a folder without the code.

    The same stages run as modules of the package; a digest file stands for the code files among a stage's
    dependencies; a plot's template is a file of the project.
    """
    source = installed.pipeline()
    stages = {"installed": _INSTALLED}
    for name, stage in source["stages"].items():
        data = [dependency for dependency in stage["deps"] if not installed.is_code(dependency)]
        stages[name] = stage | {
            "cmd": stage["cmd"].replace("python -m stages.", "python -m curate.stages."),
            "deps": [f"{installed.FOLDER}/code/{name}", *data],
        }
    templates = {path.stem for path in _templates()}
    plots = [
        {title: plot | {"template": f"plots/{plot['template']}.json"} if plot.get("template") in templates else plot}
        for entry in source["plots"]
        for title, plot in entry.items()
    ]
    return source | {"stages": stages, "plots": plots}


def _templates() -> list[Path]:
    return sorted((shipped.ROOT / ".dvc" / "plots").glob("*.json"))


OF_THE_DATA = ("format", "fields", "pairing", "keep", "hub_config", "hub_split", "hub_revision", "input_limit")
"""Keys of `data` that say how one file or dataset is read: a preset's are of its own."""


def parameters(preset: Preset, data: DataParams | None, model: str | None, *, is_folder: bool) -> str:
    """The project's params.yaml: the preset's, with the data and the model that were named.

    Args:
        data: its `source`, a path from the project's folder or hub:owner/name, and OF_THE_DATA.
        model: a Hub id or, where `is_folder`, a path from the project's folder.
    """
    if data is None and model is None:
        return preset.text
    loaded = check(Params, yaml.safe_load(preset.text))
    changes: dict[str, Any] = {}
    if model is not None:
        watch = {"watch": model} if is_folder else {}
        changes["model"] = loaded.model.model_copy(update=ModelParams().model_dump() | {"name": model} | watch)
    if data is not None:
        source = data.source
        watched = _watched(data)
        own = {name: getattr(data, name) for name in OF_THE_DATA} | {"watch": watched, "source": source}
        changes["data"] = loaded.data.model_copy(update=own)
        changes["report"] = loaded.report.model_copy(update={"title": f"B-DPO on {Path(source).name}"})
        # A model from scratch comprehends the pairs that it has read the like of, and its context is short.
        changes |= _evaluation(loaded) if source != "sample" else {}
        if source != "sample" and changes.get("model", loaded.model).name == "scratch":
            changes["score"] = loaded.score.model_copy(update={"too_long": "reject"})
        texts = {"texts": [source], "watch": watched}
        changes["reference"] = loaded.reference.model_copy(update=texts)
    of = f"The preset {preset.name}, with the data or the model that `curate init` was given. The preset itself:"
    heading = "".join(f"# {line}\n" for line in (of, *preset.heading))
    return f"{heading}#\n{to_yaml(loaded.model_copy(update=changes))}"


def _watched(data: DataParams) -> str:
    try:
        return data.watched()
    except ValueError as error:
        remedy = "put both into a folder, which DVC then watches"
        raise UsageError(str(error), field="data.source", found=data.source, remedy=remedy) from None


HELDOUT = "data/pairs.parquet"


def _evaluation(loaded: Params) -> dict[str, Any]:
    """Where the embedded sample's prompts were asked, the held-out ones of the project's own data are.

    They are read from the pairs, which another alpha leaves as they are, and not from the weights.
    """
    suites = [suite for suite in loaded.evaluate.suites if suite.partition("=")[2] != "sample" and suite != "sample"]
    if suites:  # a preset's own files: one path is watched, and it is theirs
        return {}
    changed = {"suites": [f"heldout={HELDOUT}"], "watch": HELDOUT}
    return {"evaluate": loaded.evaluate.model_copy(update=changed)}


class _WithoutAliases(yaml.SafeDumper):
    """Writes out what two stages share."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def contents(params: str) -> dict[str, str]:
    """Every file of a project by its path in the folder; `params` is the text of params.yaml."""
    dumped = yaml.dump(pipeline(), Dumper=_WithoutAliases, sort_keys=False, allow_unicode=True, width=118)
    carried = {f"plots/{path.name}": path for path in _templates()}
    carried |= {f"configs/{path.name}": path for path in sorted((shipped.ROOT / "configs").glob("*.yaml"))}
    carried[".dvcignore"] = shipped.ROOT / ".dvcignore"
    texts = {name: path.read_text(encoding="utf-8") for name, path in carried.items()}
    spaced = re.sub(r"\n(?=  [a-z]+:\n    desc)", "\n\n", dumped).replace("stages:\n\n", "stages:\n")
    return {"params.yaml": params, "dvc.yaml": _HEADER + spaced, ".gitignore": GITIGNORE} | texts


def create(folder: Path, texts: Mapping[str, str]) -> list[str]:
    """Write `texts` into `folder`, all or none; of `KEPT`, those that exist stay.

    Returns:
        The names of the files written.

    Raises:
        OutputError: one of the others exists, or what a stage would replace, or the folder cannot be written; nothing
            was written.
    """
    there = [name for name in texts if (folder / name).exists() or (folder / name).is_symlink()]
    if taken := [name for name in there if name not in KEPT]:
        raise OutputError(
            "files of a project stand here already, and none is overwritten",
            file=folder,
            found=", ".join(taken),
            expected="none of them",
            remedy="name another folder, or move them away",
        )
    if lost := _lost(folder):
        raise OutputError(
            "files stand where the pipeline writes, and `dvc repro` would remove them",
            file=folder,
            found=few(lost),
            remedy="name another folder, or move them away",
        )
    made: list[Path] = []
    new = [name for name in texts if name not in there]
    try:
        for name in new:
            path = folder / name
            for parent in reversed([above for above in path.parents if not above.exists()]):
                parent.mkdir()
                made.append(parent)
            # `x`: a file that appeared meanwhile is not overwritten either.
            with path.open("x", encoding="utf-8") as file:
                made.append(path)
                file.write(texts[name])
    except BaseException as error:
        _remove(made)
        if isinstance(error, OSError):
            found = error.strerror or error
            remedy = "free space or name another folder; nothing was written"
            raise OutputError("cannot write the project", file=folder, found=found, remedy=remedy) from error
        raise
    return new


def _lost(folder: Path) -> list[str]:
    """What stands in `folder` where stages write: DVC removes it before it runs them. None of it where a dvc.lock says
    that stages made it."""
    if (folder / "dvc.lock").exists():
        return []
    outs = (out for stage in pipeline()["stages"].values() for out in stage["outs"] + stage.get("metrics", []))
    patterns = (re.sub(r"\$\{[^}]*\}", "*", out if isinstance(out, str) else next(iter(out))) for out in outs)
    return sorted({path.relative_to(folder).as_posix() for pattern in patterns for path in folder.glob(pattern)})


def _remove(made: list[Path]) -> None:
    for path in reversed(made):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def missing(folder: Path, params: str) -> list[str]:
    """Files, and the model's folder, that the text of params.yaml names and that are not there, seen from `folder`."""
    loaded = yaml.safe_load(params)
    named = [loaded["data"]["source"], *loaded["reference"]["texts"]]
    model = loaded["model"]
    paths = [*filter(is_file, named), *([model["name"]] if model["name"] == model["watch"] else [])]
    return [name for name in dict.fromkeys(paths) if not (folder / name).exists()]


def next_commands(folder: Path) -> list[str]:
    """What to call after `create`, by what `folder` and this machine have already."""
    extras = {"train": "torch", "report": "matplotlib", "pipeline": "dvc"}
    lacking = [extra for extra, module in extras.items() if find_spec(module) is None]
    commands = [f"pip install 'curate-preferences[{','.join(lacking)}]'"] if lacking else []
    if files.real(folder) != Path.cwd():
        commands.append(f"cd {quoted(folder)}")
    above = [parent for parent in files.real(folder).parents if (parent / ".git").exists()]
    if not (folder / ".dvc" / "config").exists():
        is_top = (folder / ".git").exists() or not above
        git = [] if above or (folder / ".git").exists() else ["git init"]
        commands.append(" && ".join([*git, "dvc init" if is_top else "dvc init --subdir"]))
    return [*commands, "dvc repro"]
