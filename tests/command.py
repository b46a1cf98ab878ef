"""The `curate` command within this process, which has imported already what it needs."""

import contextlib
import io
import subprocess
import sys

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
