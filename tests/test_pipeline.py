"""The whole pipeline by DVC, with real vLLM scoring, on a small sample; then what must not run again.

It runs in a project that `curate init` made, by the package as it is installed from a wheel. That its dvc.yaml is the
repository's is seen in tests/project/test_create.py; a stage of the repository's own runs for docs/experiments.md.
"""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import command
import polars as pl
import pytest
import yaml
from pyarrow import ipc

from curate.base.shards import SUFFIX
from curate.evaluation import record
from curate.project import params

ROOT = Path(__file__).resolve().parents[1]
PYTHON = Path(sys.executable)
ALWAYS = {"installed"}  # notes the code that is installed; what it wrote decides the rest
SMALL = {
    "score": {"engine": "vllm"},
    "data": {"sample_pairs": 240},
    "reference": {"steps": 60, "vocab_size": 1024, "hidden_size": 64, "heads": 2, "layers": 2},
    "train": {"epochs": 1, "evaluations": 2, "eval_pairs": 256, "checkpoints": 1},
    "evaluate": {"engine": "transformers", "suites": ["sample"], "limit": 2, "max_tokens": 8},
}
ANSWERS = f".curate/generations/*/*{SUFFIX}"
EVALUATIONS = {"evaluate-base", "evaluate@dpo-0", "evaluate@bdpo-0"}


def run(project, *words, check=True):
    done = subprocess.run(
        words, cwd=project, env=with_wheel(project), capture_output=True, text=True, check=False, timeout=400
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def with_wheel(project):
    """Where the package is that of the project's wheel, and no other."""
    return command.environment() | {"PYTHONPATH": str(installed(project))}


def installed(project):
    return project.parent / "installed"


def stages_run(done):
    return {line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")}


def stale(project):
    """What `dvc repro` would run for what it depends on has changed, or for its params."""
    return {*json.loads(run(project, "dvc", "status", "--json").stdout)} - ALWAYS


def back(project):
    """As it was when last committed."""
    run(project, "git", "checkout", "--quiet", ".")
    run(project, "dvc", "checkout", "--quiet", "--force")


def change_params(project, changes):
    path = project / "params.yaml"
    values = params.load(path).model_dump()
    for section, changed in changes.items():
        values[section] |= changed
    path.write_text(params.to_yaml(params.check(params.Params, values)))


def commit(project, message):
    run(project, "git", "add", "-A")
    run(project, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", message)


@pytest.fixture
def project(ran):
    """Afterwards it is as it was, whether the test failed or not."""
    yield ran
    if run(ran, "git", "status", "--porcelain").stdout:
        back(ran)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A project with small params, run once."""
    folder = tmp_path_factory.mktemp("pipeline")
    source, project = folder / "source", folder / "project"
    for name in ("curate", "stages", "presets", "configs", ".dvc/plots"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, source)
    run(source, "uv", "build", "--offline", "--wheel", "--no-build-isolation", "--out-dir", folder)
    (wheel,) = folder.glob("curate_preferences-*.whl")
    run(folder, "uv", "pip", "install", "--offline", "--no-deps", "--target", installed(project), wheel)
    shutil.rmtree(source)
    run(folder, PYTHON, "-m", "curate", "init", project)
    change_params(project, SMALL)
    run(project, "git", "init", "-q")
    run(project, "dvc", "init", "-q")
    commit(project, "start")
    assert "python -m curate.stages.score" in run(project, "dvc", "repro").stdout
    commit(project, "run")
    return project


pytestmark = [pytest.mark.slow, pytest.mark.vllm]


def test_every_artefact_is_there_and_the_counts_add_up(project):
    prepared = json.loads((project / "data/prepare.json").read_text())
    assert prepared["read"] == prepared["kept"] + prepared["rejected"]
    heights = {
        name: pl.read_parquet(project / f"data/{name}.parquet").height
        for name in ("pairs", "rejects", "scores", "score_rejects", "splits", "weights")
    }
    assert heights["pairs"] == prepared["kept"] and heights["rejects"] == prepared["rejected"] > 0
    assert heights["scores"] + heights["score_rejects"] == heights["pairs"]
    assert heights["weights"] == heights["splits"] == heights["scores"]
    weights = pl.read_parquet(project / "data/weights.parquet").filter(pl.col("split") == "heldout")
    heldout_scale = weights["pair_scale"].mean()
    for arm in ("dpo", "bdpo"):
        metrics = json.loads((project / f"runs/{arm}/seed-0/metrics.json").read_text())
        # ln 2 for DPO; the mean of s ln 2, a little less, for B-DPO.
        expected = math.log(2) if arm == "dpo" else math.log(2) * heldout_scale
        assert metrics["start"]["loss"] == pytest.approx(expected, abs=1e-3)
        assert (project / f"runs/{arm}/seed-0/model/model.safetensors").is_file()
    assert [(one.name, one.seed) for one in record.read([project / "evaluations"])] == [
        *(("base", None), ("bdpo", 0), ("dpo", 0)),
    ]
    text = (project / "report/index.html").read_text()
    assert "bdpo − dpo" in text and "dpo − base" in text and "Evaluation on sample" in text
    assert "vllm" in json.loads((project / "data/score.json").read_text())["engine"]


def test_the_package_is_the_wheels(project):
    found = run(project, PYTHON, "-c", "import curate; print(curate.__file__)").stdout.strip()
    assert Path(found).is_relative_to(installed(project)) and not (installed(project) / "stages").exists()


def test_a_second_repro_runs_nothing(project):
    assert stages_run(run(project, "dvc", "repro")) == ALWAYS
    assert not run(project, "git", "status", "--porcelain").stdout


def test_metrics_plots_and_dag_say_something(project):
    metrics = json.loads(run(project, "dvc", "metrics", "show", "--json").stdout)[""]["data"]
    assert {str(Path(name)) for name in metrics} == {f"report/metrics/{name}.json" for name in ("pairs", "dpo", "bdpo")}
    table = run(project, "dvc", "metrics", "show").stdout
    assert max(map(len, table.splitlines())) <= 100
    evaluated = json.loads((project / "report/metrics.json").read_text())
    assert evaluated["evaluation"]["base"]["sample: safe rate, unsafe prompts"]["n"] == 2
    assert evaluated["comparisons"]["bdpo - dpo"]["sample: safe rate, unsafe prompts"]["seeds"] == 1
    run(project, "dvc", "plots", "show", "--out", "plots_out")
    shown = (project / "plots_out" / "index.html").read_text()
    assert "vega" in shown.lower() and "sample: safe rate, unsafe prompts" in shown
    shutil.rmtree(project / "plots_out")
    dag = run(project, "dvc", "dag", "--dot").stdout
    for stage in (
        "reference",
        "prepare",
        "score",
        "split",
        "weigh",
        "train@dpo-0",
        "train@bdpo-0",
        *EVALUATIONS,
        "report",
    ):
        assert stage in dag


def test_another_alpha_or_draw_of_subsets_trains_only_what_reads_it_and_scores_nothing(project):
    shards = sorted((project / ".curate/scores").rglob("*.parquet"))
    weights = pl.read_parquet(project / "data/weights.parquet")
    done = run(project, "dvc", "exp", "run", "-S", "weigh.alpha=2.5", "-S", "split.seed=7", "weigh")
    assert stages_run(done) == {*ALWAYS, "split", "weigh"}
    assert sorted((project / ".curate/scores").rglob("*.parquet")) == shards
    changed = pl.read_parquet(project / "data/weights.parquet")
    assert changed["pmi_gap"].equals(weights["pmi_gap"]) and not changed["chosen_weight"].equals(
        weights["chosen_weight"]
    )
    assert not changed["random"].equals(weights["random"])
    assert stale(project) == {"train@bdpo-0", "report"}  # no weight reaches DPO's loss, and it is on all pairs
    edges = run(project, "dvc", "dag", "--dot").stdout
    assert '"train@bdpo-0" -> "evaluate@bdpo-0"' in edges
    back(project)
    assert stale(project) == set()


def test_what_arms_are_compared_with_concerns_the_report_alone(project):
    change_params(project, {"report": {"compare_with": ["base"]}})
    assert stale(project) == {"report"}


def test_other_suites_run_evaluation_and_report_alone_and_a_killed_evaluation_goes_on(project):
    change_params(project, {"evaluate": {"suites": ["sample", "prefill=sample"], "limit": 40}})
    assert stale(project) == {*EVALUATIONS, "report"}
    before = set(project.glob(ANSWERS))
    repro = subprocess.Popen(
        ("dvc", "repro", "evaluate-base"), cwd=project, env=with_wheel(project), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    while not (new := set(project.glob(ANSWERS)) - before):
        assert repro.poll() is None
        time.sleep(0.01)
    os.killpg(repro.pid, signal.SIGKILL)
    repro.wait()
    (shard,) = new
    answered = shard.read_bytes()
    assert not (project / "evaluations/base/metrics.json").exists()

    assert stages_run(run(project, "dvc", "repro", "evaluate-base")) == {*ALWAYS, "evaluate-base"}
    (base,) = record.read([project / "evaluations/base"])
    assert base.metrics["suites"]["sample"]["items"] == 80 and base.metrics["suites"]["prefill"]["items"] > 40
    assert shard.read_bytes() == answered
    keys = [ipc.open_file(path).read_all().columns[:2] for path in shard.parent.glob(f"*{SUFFIX}")]
    asked = [key for high, low in keys for key in zip(high.to_pylist(), low.to_pylist(), strict=True)]
    assert len(asked) == len(set(asked)) > 80  # nothing twice


def test_a_lost_output_is_made_again_from_the_store_in_the_same_bytes(project):
    scores = project / "data/scores.parquet"
    before = scores.read_bytes()
    scores.unlink()
    done = run(project, sys.executable, "-m", "curate.stages.score")
    assert "computed 0 (0 tokens)" in done.stderr and scores.read_bytes() == before


def test_a_typo_in_params_stops_a_stage_before_it_touches_anything(project):
    text = (project / "params.yaml").read_text()
    before = (project / "data/weights.parquet").read_bytes()
    (project / "params.yaml").write_text(text.replace("  alpha:", "  alhpa:"))
    done = run(project, sys.executable, "-m", "curate.stages.weigh", check=False)
    assert done.returncode == 2 and "weigh.alhpa" in done.stderr and "Traceback" not in done.stderr
    assert (project / "data/weights.parquet").read_bytes() == before


def test_another_version_runs_the_stages_whose_code_it_changed(project):
    changed = [installed(project) / f"curate/selection/{name}.py" for name in ("subsets", "weights")]
    before = [path.read_text() for path in changed]
    try:
        for path, text in zip(changed, before, strict=True):
            path.write_text(text + "# another\n")
        run(project, "dvc", "repro", "--quiet", "installed")
        found = stale(project)
    finally:
        for path, text in zip(changed, before, strict=True):
            path.write_text(text)
    assert {"split", "weigh", "train@bdpo-0"} <= found and not {"reference", "prepare", "score"} & found
    run(project, "dvc", "repro", "--quiet", "installed")
    assert stale(project) == set()


def test_stages_name_every_section_they_read():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    chain = (
        "reference",
        "prepare",
        "score",
        "split",
        "weigh",
        "train",
        "train-more",
        "evaluate-base",
        "evaluate",
        "evaluate-more",
        "report",
        "publish",
    )
    assert tuple(stages) == chain
