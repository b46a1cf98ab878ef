"""What the whole session shares: the embedded sample, its reference model, and one vLLM engine."""

import gc
import hashlib
import os
import platform
import signal
from pathlib import Path

import pytest
from filelock import FileLock
from groups import Groups, group
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch: each worker has one core
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import curate.base.threads  # noqa: F401  (before torch)
from curate.base import files
from curate.models.resolve import REFERENCE_FILE, resolve
from curate.project import params

settings.register_profile("curate", deadline=None)  # a busy machine is no fault
settings.load_profile("curate")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell's background job has it: tests press Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
CODE = ("curate/base", "curate/models", "curate/pairs", "curate/project", "curate/sample")
"""What the reference model's bytes may depend on."""


def _key() -> str:
    """Digest of the code, the params and the packages that make the reference model."""
    digest = hashlib.sha256(params.to_yaml(params.Params()).encode())
    for room in CODE:
        for path in sorted(ROOT.glob(f"{room}/**/*.py")):
            digest.update(f"{path.relative_to(ROOT)} {files.file_digest(path)}\n".encode())
    for package in ("torch", "transformers", "tokenizers"):
        digest.update(__import__(package).__version__.encode())
    digest.update(platform.processor().encode())
    return digest.hexdigest()[:16]


DEAR = ("test_pipeline.py", "test_ray.py", "test_docs.py", "test_kills.py", "test_processes.py")
"""Files that take longest, which go first, so that no worker is left with one at the end."""


def pytest_xdist_make_scheduler(config, log):
    return Groups(config, log)


def pytest_collection_modifyitems(items):
    """In which order the groups go, and within that of vLLM its tests."""

    def rank(item):
        return DEAR.index(item.path.name) if item.path.name in DEAR else len(DEAR) + ("slow" not in item.keywords)

    def with_vllm(item):
        """First what only asks vLLM, then the shared engine's tests, last the one that breaks an engine."""
        return item.path.name == "test_vllm.py", "vllm_engine" in item.fixturenames

    found = {}
    for item in items:
        found.setdefault(group(item.nodeid), []).append(item)
    found.get("vllm", []).sort(key=with_vllm)
    ordered = sorted(found.values(), key=lambda tests: min(rank(item) for item in tests))
    items[:] = [item for tests in ordered for item in tests]


def pytest_collection_finish():
    """What the tests import is no garbage: it is not looked at again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def sample_pairs():
    """The default sample, prepared: schema.PAIRS."""
    from curate.pairs.prepare import prepare

    return prepare(params.DataParams(), params.CleaningParams()).pairs


@pytest.fixture(scope="session")
def reference_model(tmp_path_factory) -> Path:
    """Folder of the default sample's reference model, trained once a session (about a minute).

    With CURATE_TEST_CACHE, a folder, it is kept there and trained again only when something it depends on changes.
    """
    from curate.models.scratch.pretrain import train_reference

    cache = os.environ.get("CURATE_TEST_CACHE")
    worker = "PYTEST_XDIST_WORKER" in os.environ
    root = tmp_path_factory.getbasetemp().parent if worker else tmp_path_factory.getbasetemp()  # all workers' own
    out = Path(cache) / f"reference-{_key()}" if cache else root / "reference"
    with FileLock(f"{out}.lock"):
        if not (out / REFERENCE_FILE).exists():
            defaults = params.Params()
            train_reference(defaults.reference, defaults.data, defaults.cleaning, out)
    return out


@pytest.fixture(scope="session")
def _vllm_engines():
    """The last one opened for `vllm_engine`, closed at the end."""
    opened: list = []
    yield opened
    for engine in opened:
        engine.close()


@pytest.fixture
def vllm_engine(reference_model, _vllm_engines):
    """A vLLM engine with the reference model, float32; one for the session, as its start takes ten seconds. Opened anew
    after a test that closed one of its own: vLLM's process groups are gone for all of a process then."""
    pytest.importorskip("vllm")
    from vllm.distributed import parallel_state

    from curate.scoring.engines.vllm import VllmEngine

    if not (_vllm_engines and parallel_state.model_parallel_is_initialized()):
        _vllm_engines[:] = [VllmEngine(resolve(reference_model), "float32")]
    return _vllm_engines[0]


@pytest.fixture
def realdata() -> Path:
    """The folder of third-party data that the mark `realdata` reads; skips where it is missing."""
    folder = Path(os.environ.get("CURATE_REALDATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no third-party data at {folder}")
    return folder
