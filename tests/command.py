"""The `curate` command within this process, which has imported already what it needs."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from curate import cli
from curate.base.errors import CurateError


def curate(*arguments):
    """Runs it; a mistake that it names is raised as it is, any other end but success fails the test."""
    done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    if isinstance(done.exception, CurateError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done


def process(*arguments, cwd):
    """Runs it in the folder `cwd` as `python -m curate` does; what `subprocess.run` gives of such a process."""
    words = ["curate", *map(str, arguments)]
    out, said = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
        patch.setattr(sys, "argv", words)
        patch.chdir(cwd)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return subprocess.CompletedProcess(words, ended.value.code or 0, out.getvalue(), said.getvalue())


def environment():
    """Of another process: this Python's programs first, and nothing that git, DVC or curate was told here."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "CURATE_", "DVC_"))}
    return kept | {"PATH": f"{Path(sys.executable).parent}:{kept['PATH']}"}
