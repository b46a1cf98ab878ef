"""The project's imports, computed from its code: what stands where, and what a module reaches."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file, of curate/ and stages/."""
    found = {}
    for path in sorted([*ROOT.glob("curate/**/*.py"), *ROOT.glob("stages/*.py")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def names(module: str, path: Path) -> Iterator[str]:
    """Every module that `module` names in an import, those inside functions too, those for type checkers not."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in modules() else base


@cache
def imports() -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports. `curate` itself holds the version alone and does not count."""
    return {
        module: {name for name in names(module, path) if name in modules()} - {module, "curate"}
        for module, path in modules().items()
    }


def reached(module: str) -> set[str]:
    """`module` and all that it imports, at any depth."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += imports()[name]
    return found


def circles() -> list[set[str]]:
    """Sets of modules of which each reaches each other."""
    found = [{other for other in reached(module) if module in reached(other)} for module in imports()]
    return [one for index, one in enumerate(found) if len(one) > 1 and one not in found[:index]]
