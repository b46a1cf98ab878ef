"""One place ends every process: real processes, real signals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from artefacts import frame

from curate.base import files
from curate.base.errors import CurateError, InputError
from curate.base.exits import STARTED, told

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
NUMBERS = ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT", "HF_DATASETS_IN_MEMORY_MAX_SIZE")


def test_an_error_has_four_lines_at_most():
    said = str(
        InputError("what", file="f.json", row=3, field="x", found="one\ntwo", expected="three", remedy="do it")
    ).splitlines()
    assert said == ["what", "  where: f.json, row 3, x", "  found: one two; expected: three", "  remedy: do it"]
    assert str(CurateError("what", row=0)) == "what\n  where: row 0" and str(CurateError("what")) == "what"


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        (InputError("no such thing", found="x"), 1, "curate: no such thing\n  found: x\n"),
        (KeyboardInterrupt(), 130, "curate: interrupted; nothing is lost\n"),
        (PermissionError(13, "Permission denied", "a/b"), 1, "found: Permission denied: a/b"),
        (OSError(28, "No space left on device", b"a"), 1, "found: No space left on device: a"),
    ],
)
def test_what_ends_a_block_is_told(capsys, raised, code, says):
    with pytest.raises(SystemExit) as ended, told("nothing is lost"):
        raise raised
    assert ended.value.code == code and says in capsys.readouterr().err


@pytest.mark.parametrize("raised", [FileNotFoundError(2, "No such file", "a"), ValueError("ours"), OSError("no name")])
def test_a_fault_of_ours_keeps_its_traceback(raised):
    with pytest.raises(type(raised)) as caught, told():
        raise raised
    assert caught.value is raised


@pytest.mark.parametrize(
    ("name", "value"),
    [("HF_ENDPOINT", "http://me:s3cretly@[h"), ("HF_ENDPOINT", "http://h:port"), *[(name, "x") for name in NUMBERS]],
)
def test_what_the_hubs_libraries_cannot_read_of_the_environment_is_named(name, value):
    code = "from curate.base.exits import told\nwith told():\n    import datasets"
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT | {name: value}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and f"where: {name}\n" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert "s3cretly" not in done.stderr


def test_a_signal_of_which_polars_makes_a_panic_is_an_interruption():
    """It comes while Rust has Python make a data type; the panic is no Exception."""
    code = """
import signal
import polars as pl
from curate.base.exits import told
pl.Field.__init__ = lambda *_: signal.raise_signal(signal.SIGTERM)
try:
    with told("nothing is lost"):
        pl.LazyFrame({"a": [{"b": 1}]}).collect_schema()
except SystemExit as ended:
    assert type(ended.__cause__).__name__ == "PanicException"
    raise
"""
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 143 and "curate: terminated; nothing is lost\n" in done.stderr, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["a finaliser", "an exec"])
def test_a_signal_counts_wherever_it_comes(tmp_path, number, where):
    """Python ignores one within a finaliser, and ends itself by SIGINT after one within an exec of a text."""
    code = f"""
import signal, time
from curate.base.exits import from_the_start, told
from curate.base.progress import say

class Last:
    def __del__(self):
        signal.raise_signal({number:d})

from_the_start()
print("a result", end="")
say("begun")
with told("nothing is lost"):
    {"Last()" if where == "a finaliser" else f"exec('signal.raise_signal({number:d})')"}
    [time.sleep(0.1) for _ in range(100)]
"""
    (tmp_path / "ends.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "ends"], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    said = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}[number]
    assert (done.returncode, done.stdout) == (128 + number, "a result"), done.stderr
    assert done.stderr == f"begun\ncurate: {said}; nothing is lost\n"


# In short sleeps: a signal that comes just before one does not end it.
SLOW_IMPORT = "import time; print('importing', flush=True); [time.sleep(0.1) for _ in range(300)]"
SWALLOWED = """
import time
try:
    print('importing', flush=True)
    [time.sleep(0.1) for _ in range(300)]
except KeyboardInterrupt:
    raise ImportError('initialization of a C module raised an unreported exception')
"""


def press(command, folder, wait_for, number=signal.SIGINT, **options):
    """Start it, press Ctrl-C when it prints `wait_for`, or send another signal; exit code and what was said."""
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **{"env": ENVIRONMENT} | options
    )
    assert process.stdout.readline().strip() == wait_for
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    return process.returncode, said


@pytest.mark.parametrize(
    "module",
    [
        *("curate", "curate.installed", "curate.stages.score", "curate.stages.train"),
        *(f"stages.{name}" for name in ("score", "train", "reference", "evaluate")),
    ],
)
def test_from_the_first_line_on(tmp_path, module):
    # A library that takes its time: its name is that of one that every one of them imports.
    (tmp_path / "pydantic").mkdir()
    (tmp_path / "pydantic" / "__init__.py").write_text(SLOW_IMPORT)
    code, said = press([sys.executable, "-m", module, "presets"], tmp_path, "importing")
    assert (code, said) == (130, "curate: interrupted\n")


def test_the_console_script_begins_there_too():
    import tomllib

    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["curate"]
    assert entry == "curate.__main__:main"
    loaded = f"import sys; sys.argv = ['curate', '--version']; from {entry.replace(':', ' import ')}; main()"
    done = subprocess.run([sys.executable, "-c", loaded], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0.1.0\n", "")
    early = (
        "import sys, curate.__main__; print([m for m in ('typer', 'polars', 'rich', 'pydantic') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", early], env=ENVIRONMENT, capture_output=True, text=True).stdout == "[]\n"
    )


@pytest.mark.parametrize("library", [SLOW_IMPORT, SWALLOWED], ids=["as it is", "made an ImportError"])
def test_within_a_command_s_own_imports(tmp_path, library):
    (tmp_path / "datasets.py").write_text(library)
    command = [sys.executable, "-m", "curate", "prepare", "hub:owner/name", "--out", "p.parquet"]
    code, said = press(command, tmp_path, "importing")
    assert (code, said) == (130, "curate: interrupted; what was finished is kept, run the same command to go on\n")


def test_ctrl_c_in_a_stage_says_how_to_go_on(tmp_path):
    code = (
        "import time; from stages.run import run\n"
        "run(lambda params: (print('importing', flush=True), [time.sleep(0.1) for _ in range(300)]))"
    )
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    ended, said = press([sys.executable, "-c", code], tmp_path, "importing")
    assert (ended, said) == (130, "curate: interrupted; what was finished is kept, `dvc repro` goes on\n")


def test_a_background_process_goes_on_ignoring_it(tmp_path):
    code = (
        "import time, curate.base.exits as e; e.from_the_start()\nwith e.told(): print('x', flush=True); time.sleep(1)"
    )
    ignoring = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    assert press([sys.executable, "-c", code], tmp_path, "x", **ignoring) == (0, "")


ENDINGS = {signal.SIGTERM: (143, "terminated"), signal.SIGHUP: (129, "the terminal has gone")}
HOLDING = """
import os, tempfile, time, curate.base.exits as e
e.from_the_start()
with e.told(), tempfile.TemporaryDirectory(dir='.') as folder:
    open(f'{folder}/pairs', 'w').write('text')
    print('x', flush=True)
    [time.sleep(0.1) for _ in range(300)]
"""


@pytest.mark.parametrize("number", ENDINGS, ids=lambda number: number.name)
def test_a_command_that_is_ended_leaves_no_text_behind(tmp_path, number):
    code, said = press([sys.executable, "-c", HOLDING], tmp_path, "x", number)
    ended, word = ENDINGS[number]
    assert (code, said) == (ended, f"curate: {word}; what was finished is kept, run the same command to go on\n")
    assert not list(tmp_path.iterdir())


def test_a_command_on_a_raw_file_leaves_no_text_behind(tmp_path):
    """Its pairs lie in a temporary folder while it scores them."""
    (tmp_path / "temporary").mkdir()
    rows = "".join(f'{{"prompt": "p{n}", "chosen": "a", "rejected": "b"}}\n' for n in range(20))
    (tmp_path / "raw.jsonl").write_text(rows)
    code = (
        "import sys, time, curate.models.resolve as r, curate.cli as c\n"
        "r.resolve = lambda *a, **k: (print('x', flush=True), [time.sleep(0.1) for _ in range(300)])\n"
        "sys.argv = ['curate', 'score', 'raw.jsonl', '--model', 'm']; c.main()"
    )
    environment = ENVIRONMENT | {"TMPDIR": str(tmp_path / "temporary")}
    ended, said = press([sys.executable, "-c", code], tmp_path, "x", signal.SIGTERM, env=environment)
    assert ended == 143 and "curate: terminated" in said and not list((tmp_path / "temporary").iterdir())


def test_nohup_and_processes_that_train_together_keep_theirs(tmp_path):
    code = HOLDING.replace("30", "1")
    ignoring = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    assert press([sys.executable, "-c", code], tmp_path, "x", signal.SIGHUP, **ignoring) == (0, "")
    launched = {"env": ENVIRONMENT | {STARTED: str(tmp_path)}}
    assert press([sys.executable, "-c", code], tmp_path, "x", signal.SIGTERM, **launched) == (-signal.SIGTERM, "")


def test_a_forked_child_ends_as_it_did():
    code = (
        "import multiprocessing as m, os, time, curate.base.exits as e\n"
        "with e.told():\n  p = m.get_context('fork').Process(target=time.sleep, args=(30,)); p.start()\n"
        "  time.sleep(0.3); p.terminate(); p.join(); print(p.exitcode)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("-15\n", "")


POSIX = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def called(folder, *words, **settings):
    """`curate` with these words and settings, its output as bytes."""
    command, environment = [sys.executable, "-m", "curate", *words], ENVIRONMENT | settings
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_working_folder_that_is_gone(tmp_path, capsys, monkeypatch, when):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    if when == "before":
        gone.rmdir()
    with pytest.raises(SystemExit) as ended, told():
        gone.rmdir()
        files.state_folder()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "curate: the working folder is not there any more\n  remedy: cd to one that is\n"


def test_a_stream_that_lacks_a_sign_has_it_written_out(tmp_path):
    (tmp_path / "é").mkdir()
    files.write_parquet(frame(20), tmp_path / "é" / "weights.parquet", {"stage": "weigh"})
    done = called(tmp_path, "show", "é/weights.parquet", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and b"weights: \\xe9/weights.parquet" in done.stdout and not done.stderr
    done = called(tmp_path, "show", "é/weights.parquet", "--json", PYTHONIOENCODING="ascii")
    assert json.loads(done.stdout)


@pytest.mark.parametrize(
    ("name", "settings"), [("é.parquet".encode(), POSIX), (b"\xff.parquet", {})], ids=["POSIX", "UTF-8"]
)
def test_a_name_that_is_no_text_in_this_locale_is_told(tmp_path, name, settings):
    files.write_parquet(frame(20), tmp_path / "weights.parquet", {"stage": "weigh"})
    (tmp_path / "weights.parquet").rename(tmp_path / os.fsdecode(name))
    done = called(tmp_path, "show", os.fsdecode(name), **settings)
    said = done.stderr.decode()
    assert done.returncode == 2 and "the name of a file is no text in this locale" in said and "PYTHONUTF8=1" in said


def test_no_known_width_is_no_silence(tmp_path):
    """Some programs set COLUMNS=0; rich writes nothing into 0 columns."""
    done = called(tmp_path, "show", "missing.parquet", COLUMNS="0")
    assert done.returncode == 1 and b"curate: no such file" in done.stderr


def test_matplotlib_keeps_to_itself_where_it_may_write(tmp_path):
    files.write_parquet(frame(20), tmp_path / "weights.parquet", {"stage": "weigh"})
    (tmp_path / "file").write_text("no folder")
    home = str(tmp_path / "file" / "home")
    folders = {"HOME": home, "XDG_CACHE_HOME": home, "XDG_CONFIG_HOME": home, "MPLCONFIGDIR": home}
    done = called(tmp_path, "report", "--weights", "weights.parquet", "--out", "report", **folders)
    assert done.returncode == 0 and done.stderr.splitlines()[0].startswith(b"report: 20 pairs"), done.stderr


def test_a_reader_that_has_gone_is_no_traceback(tmp_path):
    code = "from curate.base.exits import told\nwith told():\n  [print('x' * 99, flush=True) for _ in range(100_000)]"
    for command in ([sys.executable, "-c", code], [sys.executable, "-m", "curate", "presets", "default"]):
        process = subprocess.Popen(
            command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        process.stdout.close()
        time.sleep(0.1)
        assert process.stderr.read() == b"" and process.wait() == 1
