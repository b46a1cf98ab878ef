"""A Hub on loopback, and the unmodified client pointed at it."""

import sys

import polars as pl
import pytest
from artefacts import frame
from hub_server import serving
from huggingface_hub import constants
from typer.testing import CliRunner

import curate.reporting
from curate import cli
from curate.base import files
from curate.base.errors import CurateError
from curate.selection import weights as weighing

TOKEN = "hf_writer"
WEIGHED = weighing.provenance(
    weighing.WeighParams(),
    {
        "stage": "score",
        "version": "0.1.0",
        "model": {"name": "/home/somebody/models/tiny", "commit": None, "digest": "d" * 32, "context": 256},
        "engine": "transformers",
        "params": {"dtype": "float32", "null_prompt": "empty_user"},
    },
)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The server; HF_TOKEN is that of a user `me`, in the organisation `team`."""
    with serving() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix("https://huggingface.co")
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.chdir(tmp_path)
        yield server


@pytest.fixture
def no_figure(monkeypatch):
    """As where matplotlib is not installed: half of a small push's time is the figure."""
    monkeypatch.setitem(sys.modules, "curate.reporting.figures", None)
    monkeypatch.delattr(curate.reporting, "figures", raising=False)


@pytest.fixture
def pairs() -> pl.DataFrame:
    return frame(60)


@pytest.fixture
def weights(tmp_path, pairs):
    """A weighted file of 60 pairs of the sample."""
    files.write_parquet(pairs, tmp_path / "weights.parquet", WEIGHED)
    return tmp_path / "weights.parquet"


@pytest.fixture
def publish(weights):
    """Run `curate publish weights.parquet --repo me/data`; the error instead of a result where there is one."""

    def run(*options, repo="me/data", patience="0"):
        command = ["publish", str(weights), "--repo", repo, "--patience", patience, *options]
        done = CliRunner().invoke(cli.app, command)
        said = done.output + str(done.exception or "")
        assert TOKEN not in said and "5ignature" not in said, said
        if done.exception is not None and not isinstance(done.exception, CurateError):
            raise done.exception
        return done

    return run
