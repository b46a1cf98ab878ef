"""The plan of the house, computed from the code: rooms on floors, no way back up, and what each stage depends on."""

import ast

import pytest
import yaml
from imports import ROOT, circles, imports, modules, reached

FLOORS = (
    {"base", "objectives", "sample"},
    {"project"},
    {"pairs"},
    {"models", "selection"},
    {"scoring"},
    {"training", "evaluation"},
    {"reporting", "trl"},
    {"hub"},
    {"cli", "stages", "installed"},
    {"__main__"},
)
"""From the ground up. A room imports rooms of lower floors, and its own files."""

LOOSE = {"__init__.py", "__main__.py", "installed.py", "trl.py"}
"""What people call or import by name: `python -m curate`, `python -m curate.installed`, `curate.trl`."""


LONG = 60
REASON = "Long because"


def room(module: str) -> str:
    first, _, rest = module.partition(".")
    return rest.partition(".")[0] if first == "curate" else first


def floor(module: str) -> int:
    return next(level for level, rooms in enumerate(FLOORS) if room(module) in rooms)


def test_curate_opens_on_rooms():
    there = [path for path in (ROOT / "curate").iterdir() if path.name not in ("__pycache__", "_project")]
    assert {path.name for path in there if path.is_file()} == LOOSE
    assert {path.name for path in there if path.is_dir()} <= set().union(*FLOORS)
    assert all((path / "__init__.py").read_text().startswith('"""') for path in there if path.is_dir())


def test_imports_run_downwards():
    up = [
        f"{module} imports {name}"
        for module, names in imports().items()
        for name in names
        if module != "curate" and room(module) != room(name) and floor(module) <= floor(name)
    ]
    assert not up


def test_a_report_reads_evaluations_and_runs_without_suites_engines_or_models():
    assert {room(one) for one in reached("stages.report")}.isdisjoint({"models", "scoring", "training", "hub", "cli"})
    read = {one for one in reached("stages.report") if room(one) == "evaluation"}
    assert read <= {f"curate.evaluation{part}" for part in ("", ".compare", ".items", ".record", ".statistics")}
    assert {room(one) for one in reached("stages.publish")}.isdisjoint({"scoring", "training", "cli"})
    read = {one for one in reached("stages.publish") if room(one) == "evaluation"}
    assert read <= {"curate.evaluation", "curate.evaluation.statistics"}


def test_no_circle_of_files():
    assert not circles()


def test_no_function_is_long_without_a_reason():
    long = []
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > LONG and REASON not in (ast.get_docstring(node) or ""):
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {lines} lines")
    assert not long


HARMLESS = {
    "curate/base/errors.py": "says what went wrong",
    "curate/base/exits.py": "ends a process with a message",
    "curate/base/progress.py": "shows how far it is",
    "curate/base/credentials.py": "strikes passwords out of what is shown",
    "curate/models/faults.py": "says what could not be loaded",
    "curate/base/limits.py": "refuses input without end",
    "curate/base/passing.py": "how long a server is waited for",
    "curate/base/namesake.py": "refuses to run where another package of the name is installed",
    "curate/base/locks.py": "says who runs, not what comes of it",
    "curate/base/memory.py": "what becomes of freed memory",
    "curate/base/native.py": "how C is compiled; the C lies beside what loads it",
    "curate/base/device.py": "which device there is; scores are stored by it",
    "curate/base/times.py": "how long a stage took, beside the score store",
    "curate/base/light.py": "leaves out what transformers imports for nothing",
    "curate/base/threads.py": "how threads wait, and which kernels are kept",
    "curate/project/params/": "values are in `params`, defaults of keys that a file lacks in installed.py's digests",
    "curate/project/installed.py": "names checkpoints by the code that made them",
    "curate/project/shipped.py": "where the package lies",
    "stages/__init__.py": "imports curate.base.threads, and takes Ctrl-C",
    "stages/run.py": "reads params.yaml and prints errors",
}
"""Modules that no stage needs to depend on, and why: none of them can change a result."""

WATCHED = "curate/sample/"
"""`data.watch` and its like name this folder where the embedded sample is used, else what is read."""
OF_NO_SAMPLE = "${train.watch}"


def dependencies(stage: dict) -> list[str]:
    return [name for name in stage["deps"] if name.startswith(("curate/", "stages/"))]


def covers(dependency: str, file: str) -> bool:
    return file == dependency or file.startswith(f"{dependency}/")


def _run_by(module: str) -> set[str]:
    """What `module` reaches, and the packages above that hold more than a docstring."""
    found = reached(module)
    above = {name.rpartition(".")[0] for name in found}
    return found | {name for name in above if name in modules() and imports()[name]}


STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_the_code_that_makes_its_results(name):
    stage = STAGES[name]
    module = stage["cmd"].split()[2]
    paths = {modules()[one] for one in _run_by(module)}
    c = {path.with_suffix(".c") for path in paths}
    files = {path.relative_to(ROOT).as_posix() for path in paths | {one for one in c if one.is_file()}}
    named = dependencies(stage)
    watches = any("watch" in dependency and dependency != OF_NO_SAMPLE for dependency in stage["deps"])
    missing = [
        file
        for file in sorted(files)
        if not any(covers(dependency, file) for dependency in named)
        and not any(file == harmless or (harmless[-1] == "/" and file.startswith(harmless)) for harmless in HARMLESS)
        and not (watches and file.startswith(WATCHED))
    ]
    assert not missing, "these can change the result and are neither among deps nor harmless"
    idle = [dependency for dependency in named if not any(covers(dependency, file) for file in files)]
    assert not idle, "the stage imports none of these"


def test_what_is_called_harmless_is_there():
    assert all((ROOT / name).exists() for name in HARMLESS)
