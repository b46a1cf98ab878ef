"""The DVC stage: nothing without a repository, one push with one, and none again while nothing changes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from artefacts import frame

from curate.base import files
from curate.project import params

ROOT = Path(__file__).resolve().parents[2]


def test_publishing_is_off_until_a_repository_is_named(hub, tmp_path):
    project = tmp_path / "project"
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["publish"]
    files.write_parquet(frame(40), project / "data" / "weights.parquet", {})
    files.write_json({"read": 40, "kept": 40, "rejected": 0, "rules": {}, "marks": {}}, project / "data/prepare.json")
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"publish": stage}}))
    for code in ("stages", *(name for name in stage["deps"] if name.startswith("curate/"))):
        if (ROOT / code).is_dir():
            shutil.copytree(ROOT / code, project / code, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (project / code).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / code, project / code)
    shutil.copy(ROOT / ".dvcignore", project)
    # Only what the stage depends on is copied; the code that runs is the repository's.
    (project / "curate" / "__init__.py").write_text(f"__path__ = [{str(ROOT / 'curate')!r}]\n__version__ = '0.1.0'\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "DVC_", "CURATE_"))}
    environment |= {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path),
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": "hf_writer",
    }
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"

    def dvc(*arguments):
        done = subprocess.run(
            ["dvc", *arguments], cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "hf_writer" not in done.stdout + done.stderr
        return done.stdout

    def set_up(**publish):
        (project / "params.yaml").write_text(params.to_yaml(params.Params(publish=params.PublishParams(**publish))))

    set_up()
    dvc("init", "-q", "--no-scm")
    dvc("repro")
    assert not hub.asked
    set_up(repos=["me/data", "team/da.ta"])
    dvc("repro")
    for repo in ("me/data", "team/da.ta"):
        receipt = json.loads((project / f"data/publish/{repo}.json").read_text())
        assert receipt["commit"] == hub.repo(repo).commits[-1][0] and "data/train-00000-of-00001.parquet" in hub.files(
            repo
        )
    asked = len(hub.asked)
    assert "didn't change, skipping" in dvc("repro") and len(hub.asked) == asked
