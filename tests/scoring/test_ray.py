"""The scorer on a local Ray cluster of two workers."""

import os
import signal

import numpy as np
import pytest
from tiny import many, pairs, save_model

from curate.base import files
from curate.base.errors import InputError, UsageError
from curate.models.resolve import resolve
from curate.pairs.artefact import read_artefact
from curate.project import params
from curate.scoring import chunks
from curate.scoring import ray as scoring_on_ray
from curate.scoring.ray import score_on_ray
from curate.scoring.score import score, score_file
from curate.scoring.store import holdings

pytestmark = pytest.mark.slow

HERE = params.ScoreParams(engine="transformers")
RAY = params.ScoreParams(engine="ray", ray_engine="transformers", ray_workers=2)
ALONE = RAY.model_copy(update={"ray_workers": 1})  # an actor's imports take ten seconds
CONTRASTIVE = {"null_prompt": "contrastive", "contrastive_prompts": 2}  # drawn from the prompts of all pairs


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Two CPUs, whatever this machine has: two actors of one each."""
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  (15 by default: the tests beside would go first)
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return resolve(save_model(tmp_path_factory.mktemp("model")))


@pytest.fixture
def small_chunks(monkeypatch):
    for module in (chunks, scoring_on_ray):
        monkeypatch.setattr(module, "CHUNK_PAIRS", 16)


@pytest.fixture
def pairs_file(tmp_path):
    files.write_parquet(many(70), tmp_path / "pairs.parquet", {})
    return tmp_path / "pairs.parquet"


@pytest.mark.usefixtures("small_chunks")
def test_two_actors_give_the_file_that_one_process_gives(model, pairs_file, tmp_path):
    here, on_ray = (known.model_copy(update=CONTRASTIVE) for known in (HERE, RAY))
    alone = score_file(pairs_file, model, here, tmp_path / "a", tmp_path / "alone.parquet")
    result = score_file(pairs_file, model, on_ray, tmp_path / "b", tmp_path / "ray.parquet", score_on_ray)
    assert result.provenance == alone.provenance
    one, two = (read_artefact(tmp_path / f"{name}.parquet", "scores") for name in ("alone", "ray"))
    assert one["pair_id"].equals(two["pair_id"])  # in the file's order, whoever was first
    for column in ("ref_chosen_logps", "null_rejected_logps"):
        assert ((one[column] - two[column]) / one["chosen_tokens"]).abs().max() < 1e-5
    rows = [holdings(tmp_path / name)[0].rows for name in ("a", "b")]
    assert rows[0] <= rows[1] < 1.1 * rows[0]  # null prompts met by both at once may be there twice
    medians = [found.summary["query_types"]["unsafe"]["pmi_gap"]["q50"] for found in (alone, result)]
    assert np.isclose(*medians, atol=1e-5)


@pytest.mark.usefixtures("small_chunks")
def test_what_one_process_scored_is_not_scored_again(model, pairs_file, tmp_path, capsys):
    score_file(pairs_file, model, HERE, tmp_path / "store", tmp_path / "alone.parquet")
    score_file(pairs_file, model, ALONE, tmp_path / "store", tmp_path / "ray.parquet", score_on_ray)
    told = capsys.readouterr().err
    assert "computed 0 (0 tokens)" in told
    assert "Execution plan" not in told  # Ray Data's own words
    assert (tmp_path / "alone.parquet").read_bytes() == (tmp_path / "ray.parquet").read_bytes()


@pytest.mark.usefixtures("small_chunks")
def test_an_actor_that_dies_is_replaced(model, tmp_path, monkeypatch):
    files.write_parquet(many(70), tmp_path / "pairs.parquet", {})

    class Mortal(scoring_on_ray.ScoreActor):
        """Dies once, as at the hands of the kernel, when two of its ranges are done. The time to kill it from outside
        is short on a busy machine; and another actor may be another run's."""

        def __call__(self, ranges):
            if ranges["first"][0] == 32 and not (tmp_path / "died").exists():
                (tmp_path / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(ranges)

    monkeypatch.setattr(scoring_on_ray, "ScoreActor", Mortal)
    score_file(tmp_path / "pairs.parquet", model, ALONE, tmp_path / "store", tmp_path / "scores.parquet", score_on_ray)
    assert (tmp_path / "died").exists()
    score_file(tmp_path / "pairs.parquet", model, HERE, tmp_path / "store", tmp_path / "again.parquet")
    assert read_artefact(tmp_path / "scores.parquet", "scores").height == 70
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "scores.parquet").read_bytes()


def test_a_fault_in_an_actor_is_one_clear_error_here(model, tmp_path):
    files.write_parquet(pairs(("why", "the fox " * 300, "no"), ("a", "b", "c")), tmp_path / "pairs.parquet", {})
    with pytest.raises(InputError, match="1 of 2 pairs are longer") as caught:
        score_file(
            tmp_path / "pairs.parquet", model, ALONE, tmp_path / "store", tmp_path / "scores.parquet", score_on_ray
        )
    assert "--too-long reject" in caught.value.details["remedy"]
    assert not (tmp_path / "scores.parquet").exists()


def test_a_frame_in_memory_is_no_matter_for_ray(model, tmp_path):
    with pytest.raises(UsageError, match="scores a Parquet file"):
        score(many(3), model, RAY, tmp_path)
