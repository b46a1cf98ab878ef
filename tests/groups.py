"""Which tests go to one worker of pytest-xdist: a file's; and from all files those that have vLLM in their process.

Its import and its engine take half a minute of every worker that sees them. (With pytest 9.2 xdist's own `--dist
loadgroup` does nothing: it writes the group into an attribute that items no longer have.)
"""

import ast
from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

TESTS = Path(__file__).parent
SERVED = ("test_pipeline.py", "test_real_server.py")
"""Files whose vLLM is in processes of their own."""


class Groups(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def group(nodeid: str) -> str:
    """Of a test, by its id: tests/ROOM/test_FILE.py::NAME[PARAMETERS]."""
    path, _, name = nodeid.partition("::")
    marked = _marked(TESTS.parent / path)
    return "vllm" if "" in marked or name.partition("[")[0] in marked else path


@cache
def _marked(path: Path) -> frozenset[str]:
    """The file's functions that are marked `vllm`; the empty name is the whole file."""
    if path.name in SERVED:
        return frozenset()
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and any(_names(part) for part in node.decorator_list):
            found.add(node.name)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark" and _names(node.value):
            found.add("")
    return frozenset(found)


def _names(node: ast.expr) -> bool:
    return any(ast.unparse(part) == "pytest.mark.vllm" for part in ast.walk(node) if isinstance(part, ast.Attribute))
