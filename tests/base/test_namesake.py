"""The distribution is curate-preferences; the other package called `curate` is refused, an older one of ours is not."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from curate.base.errors import UsageError
from curate.base.namesake import DISTRIBUTION, refuse_namesake

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def install(folder, summary):
    """A distribution `curate` as pip leaves its metadata."""
    info = folder / "curate-9.9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: curate\nVersion: 9.9\nSummary: {summary}\n")
    return folder


def test_the_other_package_is_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(install(tmp_path / "theirs", "Tools for curating CKAN portals"))
    with pytest.raises(UsageError) as caught:
        refuse_namesake()
    assert caught.value.details["found"] == "curate 9.9: Tools for curating CKAN portals"
    assert f"pip uninstall curate, then install {DISTRIBUTION} again" in caught.value.details["remedy"]


def test_ours_under_the_name_it_had_is_not(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(install(tmp_path / "ours", PROJECT["description"]))
    refuse_namesake()


@pytest.mark.parametrize("module", ["curate", "stages.weigh"])
def test_commands_and_stages_stop_but_help_is_given(tmp_path, module):
    install(tmp_path / "theirs", "Tools for curating CKAN portals")
    code = f"import sys, runpy; sys.path[:0] = ['theirs', {str(ROOT)!r}]; runpy.run_module({module!r}, alter_sys=True, run_name='__main__')"  # noqa: E501

    def run(*arguments):
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    done = run(*(["presets"] if module == "curate" else []))
    assert done.returncode == 2 and "another package named curate" in done.stderr and not done.stdout
    if module == "curate":
        assert run("--help").returncode == 0


def test_every_extra_that_a_file_names_is_one_of_curate_preferences():
    named = 0
    files = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "curate").rglob("*.py")]
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert "curate[" not in text.replace("curate-preferences[", ""), path
        for extras in text.split("curate-preferences[")[1:]:
            if "{" in extras[:3]:  # made up as it is said
                continue
            named += 1
            assert set(extras.partition("]")[0].split(",")) <= set(PROJECT["optional-dependencies"]), path
    assert PROJECT["name"] == DISTRIBUTION and named > 10
