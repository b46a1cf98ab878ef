"""What vLLM writes goes to a log file, and an error names it."""

import logging
import os
import subprocess
import sys

import pytest

from curate.scoring.engines.vllm_log import failure, into_log, log_file


@pytest.fixture
def logger():
    found = logging.getLogger("vllm")
    before = found.handlers, found.propagate
    yield found
    for handler in found.handlers:
        handler.close()
    found.handlers, found.propagate = before


@pytest.mark.usefixtures("logger")
def test_all_that_is_written_meanwhile_goes_to_the_log(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("CURATE_STATE", str(tmp_path / "state"))
    with into_log():
        os.write(2, b"from C\n")
        subprocess.run([sys.executable, "-c", "print('from a process')"], check=True)
    os.write(1, b"seen\n")
    logging.getLogger("vllm.logging_utils.dump_input").error("a dump of pages")
    out, err = capfd.readouterr()
    assert (out, err) == ("seen\n", "")
    text = log_file().read_text()
    assert log_file().is_relative_to(tmp_path / "state")
    assert all(f"{said}\n" in text for said in ("from C", "from a process", "a dump of pages"))


@pytest.mark.usefixtures("logger")
def test_the_screen_is_given_back_after_a_failure_and_where_no_log_can_be(tmp_path, monkeypatch, capfd):
    (tmp_path / "state").write_text("a file")
    monkeypatch.setenv("CURATE_STATE", str(tmp_path / "state"))
    with pytest.raises(RuntimeError), into_log():
        os.write(1, b"lost")
        raise RuntimeError
    os.write(1, b"seen\n")
    assert capfd.readouterr() == ("seen\n", "")


def test_an_error_is_the_first_line_and_the_way_to_the_rest(tmp_path, monkeypatch):
    monkeypatch.setenv("CURATE_STATE", str(tmp_path))
    error = failure("vLLM cannot generate", RuntimeError("too large\n" + "pages\n" * 100))
    assert error.details["found"] == "too large" and str(log_file()) in error.details["remedy"]
    assert failure("x", RuntimeError()).details["found"] == "RuntimeError"
