"""What goes wrong on a worker of Ray's, in the parts that need no cluster."""

import pickle

import pytest
from tiny import save_model

from curate.base.errors import InputError
from curate.models.resolve import resolve
from curate.project.params import ScoreParams
from curate.scoring.ray import ScoreActor, _until_death

RANGE = {"first": [0], "rows": [8]}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return resolve(save_model(tmp_path_factory.mktemp("model")))


@pytest.mark.parametrize(
    ("digest", "says"), [("0" * 32, "another model is at this path on a worker's node"), (None, "no such file")]
)
def test_an_actor_that_cannot_begin_says_why_as_its_answer(model, tmp_path, digest, says):
    model = model._replace(digest=digest or model.digest)
    actor = ScoreActor(tmp_path / "pairs.parquet", model, ScoreParams(engine="transformers"), "x", tmp_path, None)
    (answer,) = actor(RANGE)["done"]
    error = pickle.loads(answer)
    assert isinstance(error, InputError) and says in str(error)


@pytest.mark.parametrize("kind", ["ActorDiedError", "ActorUnavailableError", "WorkerCrashedError", "OutOfMemoryError"])
def test_a_worker_that_dies_again_and_again_ends_the_run_with_its_pairs(kind):
    exceptions = pytest.importorskip("ray.exceptions")
    made = {"ActorUnavailableError": ("gone", None), "OutOfMemoryError": ("out of memory",)}.get(kind, ())

    def rows():
        yield {"done": 1}
        raise getattr(exceptions, kind)(*made)

    came = []
    with pytest.raises(InputError, match="died 4 times") as caught:
        came.extend(_until_death(rows(), 16, 20))
    assert caught.value.details["field"].startswith("pairs 17 to 20,")
