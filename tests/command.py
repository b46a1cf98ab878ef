"""The `curate` command within this process."""

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
