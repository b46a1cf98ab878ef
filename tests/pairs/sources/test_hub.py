"""The Hub, without the Hub: a stand-in for the two calls, and the real ones with no network behind them."""

import time

import pytest

from curate.base.errors import InputError, UsageError
from curate.pairs.sources.hub import read_hub
from curate.pairs.sources.reading import read
from curate.project.params import DataParams

datasets = pytest.importorskip("datasets")
hub = pytest.importorskip("huggingface_hub")


@pytest.fixture
def online(monkeypatch):
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    info = type("Info", (), {"sha": "c0ffee"})
    monkeypatch.setattr(hub.HfApi, "dataset_info", lambda *_, **__: info)


@pytest.mark.usefixtures("online")
def test_rows_come_from_the_commit_that_was_resolved(monkeypatch):
    calls = []

    def load(*given, **named):
        calls.append((given, named))
        return datasets.Dataset.from_list([{"prompt": "Q", "chosen": "a", "rejected": "b"}])

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert list(read_hub("a/b", "en", "test", "main")) == [{"prompt": "Q", "chosen": "a", "rejected": "b"}]
    assert calls == [(("a/b", "en"), {"split": "test", "revision": "c0ffee"})]


@pytest.mark.parametrize(
    ("raised", "what"),
    [
        (ValueError("Unknown split"), "no such configuration or split"),
        (datasets.exceptions.DatasetNotFoundError("a gated dataset on the Hub"), "must be granted"),
        (ConnectionError("down"), "cannot read"),
        (ConnectionError("Couldn't reach 'a/b' on the Hub (OfflineModeIsEnabled)"), "HF_HUB_OFFLINE is set"),
    ],
)
@pytest.mark.usefixtures("online")
def test_faults_are_explained(monkeypatch, raised, what):
    def load(*_, **__):
        raise raised

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(InputError, match=what) as error:
        read_hub("a/b", None, "train", None)
    assert "remedy" in error.value.details
    assert error.value.details["file"] == "hub:a/b"


def test_a_bad_name_is_said_so(monkeypatch):
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(InputError, match="no such dataset"):
        read_hub("not a name!", None, "train", None)


def test_unreachable_fails_soon(monkeypatch):
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub.HfApi, "__init__", _nowhere(hub.HfApi.__init__))
    start = time.monotonic()
    with pytest.raises(InputError, match="cannot read"):
        read_hub("a/b", None, "train", None)
    assert time.monotonic() - start < 15


def _nowhere(init):
    def patched(self, *given, **named):
        init(self, *given, **named | {"endpoint": "http://127.0.0.1:9"})

    return patched


@pytest.mark.parametrize("source", ["sample", "pairs.jsonl"])
@pytest.mark.parametrize("option", [{"hub_split": "test"}, {"hub_config": "en"}, {"hub_revision": "main"}])
def test_what_is_of_a_hub_dataset_is_not_passed_over_where_there_is_none(source, option):
    with pytest.raises(UsageError, match=f"{next(iter(option))} is of a Hub dataset"):
        read(DataParams(source=source, **option))
