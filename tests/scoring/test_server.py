"""The server engine against a small server with every fault. tests/test_real_server.py has a real one."""

import asyncio
import json
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from loopback import KEY, at_once, first, opening, refuse

from curate.base.errors import InputError, UsageError
from curate.models.rendering import TokenSequence
from curate.models.resolve import Model
from curate.project.params import ScoreParams
from curate.scoring.engines import REVISION, server_answers, version
from curate.scoring.engines.server import ServerEngine
from curate.scoring.engines.server_answers import server_version, servers_of

MODEL = Model("owner/tiny", None, Path("/nowhere/tiny"), "0" * 32, 256)
CARD = {"id": "tiny", "root": "owner/tiny", "max_model_len": 256}


def sequence(*lengths, seed=0):
    ids = np.random.default_rng(seed).integers(10, 250, sum(lengths)).astype(np.int32)
    return TokenSequence(ids[: lengths[0]], ids[lengths[0] :])


def several(count):
    return [sequence(3 + i % 40, 1 + i % 30, seed=i) for i in range(count)]


def logp(token, position):
    """What the small server gives a token at a position of its sequence, nats."""
    return -(token + position / 128)


def expected(sequences):
    return [sum(logp(int(token), len(s.prompt_ids) + i) for i, token in enumerate(s.response_ids)) for s in sequences]


def completion(request):
    """The answer of a vLLM server: one choice a prompt, the choices in an order of their own."""
    choices = [
        {
            "index": index,
            "text": "",
            "prompt_logprobs": [
                None if i == 0 else {str(token): {"logprob": logp(token, i), "rank": 1, "decoded_token": "x"}}
                for i, token in enumerate(prompt)
            ],
        }
        for index, prompt in enumerate(request["prompt"])
    ]
    return 200, {"choices": choices[::-1]}


@pytest.fixture
def opened(monkeypatch):
    """Open small servers of one model and engines, closed at the end."""
    with opening(monkeypatch) as (start, stack):

        def small(fault=None, cards=(CARD,), version='{"version": "0.32.0"}', key=""):
            pages = {"/v1/models": {"data": cards}, "/version": version}
            return start("/v1/completions", completion, fault, pages, key)

        def engine(*servers, model=MODEL, **options):
            urls = [server if isinstance(server, str) else server.url for server in servers]
            opened = ServerEngine(model, urls, **{"backoff": 0.02, "timeout": 20.0} | options)
            stack.callback(opened.close)
            return opened

        yield small, engine


# What is sent, and what comes back.


def test_sums_of_the_response_tokens_in_the_order_given(opened):
    small, engine = opened
    server = small()
    sequences = several(300)
    got = engine(server).logps(sequences)
    assert got.dtype == np.float64 and got.shape == (300,)
    assert got == pytest.approx(expected(sequences), abs=1e-9)
    assert server.requests[0]["model"] == "tiny" and server.requests[0]["max_tokens"] == 1
    prompts = sorted(prompt for request in server.requests for prompt in request["prompt"])
    assert prompts == sorted(np.concatenate(s).tolist() for s in sequences)  # each once


def test_nothing_to_score(opened):
    small, engine = opened
    server = small()
    assert engine(server).logps([]).shape == (0,) and not server.requests


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
def test_forms_of_an_address(opened, end):
    small, engine = opened
    address = small().url.removesuffix("/v1") + end
    assert engine(address).logps(several(3)) == pytest.approx(expected(several(3)))
    assert server_version([address]) == "vllm 0.32.0 (server)"


@pytest.mark.parametrize("address", ["host:8000", "ftp://host/v1", "http://host/v1?key=1", "http:///v1"])
def test_what_is_no_address(address):
    with pytest.raises(UsageError, match="not the address of a server"):
        ServerEngine(MODEL, [address])
    with pytest.raises(UsageError):
        server_version([address])


@pytest.mark.parametrize("address", ["ftp://me:hush@host", "me:hush@host:80", "http://me:hu/hush@host?x"])
def test_a_password_in_an_address_is_not_shown(address):
    with pytest.raises(UsageError) as caught:
        ServerEngine(MODEL, [address])
    assert "hush" not in str(caught.value) and "host" in str(caught.value)


def test_no_address():
    with pytest.raises(UsageError, match="no server is given"):
        server_version([])


def test_requests_in_flight_are_bounded_and_all_servers_take_part(opened):
    small, engine = opened

    servers = [small(lambda *_: time.sleep(0.02)) for _ in range(3)]
    sequences = several(200)
    assert engine(*servers, concurrency=4).logps(sequences) == pytest.approx(expected(sequences))
    assert [server.most for server in servers] == [4, 4, 4]


def test_short_sequences_share_a_request(opened):
    small, engine = opened
    server = small()
    sequences = several(2000)
    assert engine(server, concurrency=2).logps(sequences) == pytest.approx(expected(sequences))
    assert len(server.requests) < 100
    tokens = [sum(map(len, request["prompt"])) for request in server.requests]
    assert max(tokens) <= 2048


def test_it_works_where_an_event_loop_is_running(opened):
    small, engine = opened
    scorer = engine(small())

    async def notebook():
        return scorer.logps(several(5))

    assert asyncio.run(notebook()) == pytest.approx(expected(several(5)))


# Faults that pass.


def test_429_is_asked_again_when_the_server_said(opened):
    small, engine = opened
    server = small(first(3, refuse(429, "slow down", Retry_After="1")))
    start = time.monotonic()
    assert engine(server).logps(several(40)) == pytest.approx(expected(several(40)))
    assert 1.0 <= time.monotonic() - start < 10.0


def test_a_date_in_retry_after(opened):
    small, engine = opened
    when = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))
    server = small(first(1, refuse(429, "slow down", Retry_After=when)))
    start = time.monotonic()
    assert engine(server).logps(several(1)) == pytest.approx(expected(several(1)))
    assert 0.5 < time.monotonic() - start < 10.0


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_5xx_twice_and_then_an_answer(opened, status):
    small, engine = opened
    server = small(first(2, refuse(status, "oh")))
    assert engine(server, retries=2).logps(several(1)) == pytest.approx(expected(several(1)))
    assert len(server.requests) == 3


def test_rests_grow(opened):
    small, engine = opened
    server = small(first(4, refuse(500)))
    start = time.monotonic()
    engine(server, backoff=0.1).logps(several(1))
    # 0.1 + 0.2 + 0.4 + 0.8, each halved at the least
    assert 0.75 <= time.monotonic() - start < 10.0


def test_one_outage_is_one_failure_however_many_requests_it_hit(opened, capsys):
    small, engine = opened
    server = small(first(8, at_once(8, refuse(503))))
    sequences = several(100)
    assert engine(server, concurrency=8, retries=1).logps(sequences) == pytest.approx(expected(sequences))
    assert "dropped" not in capsys.readouterr().err


def test_an_answer_cut_short_is_asked_again(opened):
    small, engine = opened

    def cut(*_):
        return 200, "{", {"Content-Length": "100000", "Connection": "close"}

    server = small(first(2, cut))
    assert engine(server, timeout=2.0).logps(several(1)) == pytest.approx(expected(several(1)))


def test_a_server_that_goes_down_is_dropped_and_the_rest_go_on(opened, capsys):
    small, engine = opened
    stays, goes = small(), small()
    scorer = engine(goes, stays, retries=2)
    goes.stop()
    for _ in range(2):
        assert scorer.logps(several(200)) == pytest.approx(expected(several(200)))
    said = capsys.readouterr().err
    assert said.count("dropped") == 1 and goes.url.removesuffix("/v1") in said and "1 left" in said


def test_a_server_that_hangs_does_not_hold_up_the_rest(opened):
    small, engine = opened
    over = threading.Event()
    hangs = small(lambda *_: over.wait(30) and None)
    try:
        start = time.monotonic()
        scorer = engine(hangs, small(), concurrency=2)
        assert scorer.logps(several(100)) == pytest.approx(expected(several(100)))
        assert hangs.requests and time.monotonic() - start < 15.0
    finally:
        over.set()


def test_a_slow_server_is_given_less(opened):
    small, engine = opened
    slow = small(lambda *_: time.sleep(0.3))
    quick = small(lambda *_: time.sleep(0.005))
    sequences = several(400)
    assert engine(slow, quick, concurrency=4).logps(sequences) == pytest.approx(expected(sequences))
    assert len(slow.requests) < len(quick.requests)


def test_two_answers_to_one_request_count_once(opened):
    """The quick one takes over from the slow one and answers after it; the slowest one's work is still out then."""
    small, engine = opened
    slow, slowest = small(lambda *_: time.sleep(1.4)), small(lambda *_: time.sleep(6))
    quick = small(lambda _, request: time.sleep(0.8 if request in slow.requests + slowest.requests else 0.02))
    sequences = several(60)
    got = engine(slow, slowest, quick, concurrency=1, retries=9).logps(sequences)
    assert got == pytest.approx(expected(sequences))
    assert any(request in slow.requests for request in quick.requests)


def test_a_busy_server_is_asked_as_long_as_it_answers_others(opened):
    small, engine = opened
    late = sequence(200, 40, seed=7)
    often = np.concatenate(late).tolist()

    def fault(server, request):
        tries = sum(often in r["prompt"] for r in server.requests)
        return (429, {}) if often in request["prompt"] and tries < 6 else time.sleep(0.01)

    sequences = [late, *several(2000)]
    assert engine(small(fault), concurrency=8, retries=3).logps(sequences) == pytest.approx(expected(sequences))


# Faults that do not.


def test_all_servers_down(opened):
    small, engine = opened
    servers = [small(), small()]
    scorer = engine(*servers, retries=1)
    for server in servers:
        server.stop()
    for _ in range(2):  # nor does a second call wait again
        with pytest.raises(InputError, match="no scoring server is left") as caught:
            scorer.logps(several(20))
        assert all(server.url.removesuffix("/v1") in str(caught.value) for server in servers)
        assert "is kept" in caught.value.details["remedy"]


def test_a_server_that_never_answers_in_time(opened):
    small, engine = opened
    over = threading.Event()
    server = small(lambda *_: over.wait(30) and None)
    try:
        with pytest.raises(InputError, match="no scoring server is left") as caught:
            engine(server, timeout=0.3, retries=1).logps(several(2))
        assert "no answer within 0.3 s" in caught.value.details["found"]
        assert 2 <= len(server.requests) <= 4
    finally:
        over.set()


def test_a_request_that_always_fails_beside_ones_that_do_not(opened):
    small, engine = opened
    bad = sequence(200, 40, seed=7)
    poison = np.concatenate(bad).tolist()

    def fault(_server, request):
        return (500, {"error": {"message": "EngineCore"}}) if poison in request["prompt"] else time.sleep(0.01)

    with pytest.raises(InputError, match="fails on this one again and again") as caught:
        engine(small(fault), concurrency=8, retries=3).logps([bad, *several(2000)])
    assert "EngineCore" in caught.value.details["found"]


@pytest.mark.parametrize("status", [400, 404, 413, 307])
def test_a_refusal_is_not_asked_again(opened, status):
    small, engine = opened
    server = small(refuse(status, "maximum context length is 256 tokens", Location="/v1/completions"))
    with pytest.raises(InputError, match="refuses the request") as caught:
        engine(server).logps(several(1))
    assert f"HTTP {status}: maximum context length is 256" in caught.value.details["found"]
    assert len(server.requests) == 1


def test_what_vllm_answers_where_the_number_would_be_nan(opened):
    small, engine = opened
    with pytest.raises(InputError, match="no finite number"):
        engine(small(refuse(400, "Out of range float values are not JSON compliant"))).logps(several(1))


def damaged(change):
    """The true answer, with its prompt_logprobs changed."""

    def fault(_server, request):
        status, body = completion(request)
        for choice in body["choices"]:
            change(choice)
        return status, body

    return fault


def last(number):
    """Change the log-probability of the last token."""

    def change(choice):
        (entry,) = choice["prompt_logprobs"][-1].values()
        entry["logprob"] = number

    return change


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (None, "no finite number"),
        (float("nan"), "no finite number"),
        (float("-inf"), "no finite number"),
        (float("inf"), "no finite number"),
        (-9999.0, "no finite number"),
        ("-1.5", "no finite number"),
        (3.25, "no log-probability"),
    ],
)
def test_a_number_that_is_no_log_probability(opened, number, message):
    small, engine = opened
    with pytest.raises(InputError, match=message) as caught:
        engine(small(damaged(last(number)))).logps([sequence(4, 3)])
    assert "response token 3 of 3" in caught.value.details["field"]
    assert ("--logprobs-mode raw_logprobs" in caught.value.details["remedy"]) == (message == "no log-probability")


@pytest.mark.parametrize(
    "change",
    [lambda choice: choice.pop("prompt_logprobs"), lambda choice: choice.update(prompt_logprobs=None)],
)
def test_an_answer_without_prompt_log_probs(opened, change):
    small, engine = opened
    with pytest.raises(InputError, match="no prompt log-probs") as caught:
        engine(small(damaged(change))).logps(several(3))
    assert "vLLM" in caught.value.details["remedy"]


@pytest.mark.parametrize(
    "change",
    [
        lambda choice: choice["prompt_logprobs"].pop(),
        lambda choice: choice["prompt_logprobs"].insert(1, {"9": {"logprob": -1.0}}),
        lambda choice: choice["prompt_logprobs"].__setitem__(-1, {"9": {"logprob": -1.0}}),
        lambda choice: choice["prompt_logprobs"].__setitem__(1, {"9": {"logprob": -1.0}}),
        lambda choice: choice["prompt_logprobs"].__setitem__(-1, None),
    ],
)
def test_an_answer_about_other_tokens(opened, change):
    small, engine = opened
    with pytest.raises(InputError, match="other tokens than it was given"):
        engine(small(damaged(change))).logps(several(3))


@pytest.mark.parametrize("body", ["<html>", "{}", "[]", '{"choices": []}', '{"choices": [{"index": 1}]}'])
def test_an_answer_that_is_no_completion(opened, body):
    small, engine = opened
    with pytest.raises(InputError, match="no completion of each prompt"):
        engine(small(lambda *_: (200, body))).logps(several(1))


# The key.


@pytest.mark.parametrize("name", ["CURATE_SERVER_KEY", "OPENAI_API_KEY"])
def test_the_key_is_sent(opened, monkeypatch, name):
    small, engine = opened
    monkeypatch.setenv(name, KEY)
    assert engine(small(key=KEY)).logps(several(2)) == pytest.approx(expected(several(2)))


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_not_shown(opened, monkeypatch, status):
    small, engine = opened
    monkeypatch.setenv("CURATE_SERVER_KEY", KEY)
    server = small(refuse(status, f"no such key: {KEY}"))
    with pytest.raises(InputError, match="refuses the key") as caught:
        engine(server).logps(several(1))
    assert KEY not in str(caught.value) and len(server.requests) == 1
    with pytest.raises(InputError, match="refuses the key") as caught:
        engine(small(key="another"))
    assert KEY not in str(caught.value) and "CURATE_SERVER_KEY" in str(caught.value)


def test_a_key_that_is_wanted(opened):
    small, _ = opened
    with pytest.raises(InputError, match="wants a key"):
        server_version([small(version="", key=KEY).url])


@pytest.mark.parametrize("status", [400, 500])
def test_a_key_in_the_servers_words_is_not_shown(opened, monkeypatch, capsys, status):
    small, engine = opened
    monkeypatch.setenv("CURATE_SERVER_KEY", KEY)
    fault = refuse(status, f"I was given {KEY} for this")
    with pytest.raises(InputError) as caught:
        engine(small(fault), retries=0).logps(several(1))
    assert "I was given *** for this" in str(caught.value) and KEY not in str(caught.value) + capsys.readouterr().err


def test_a_key_that_no_header_may_hold(opened, monkeypatch):
    small, engine = opened
    monkeypatch.setenv("CURATE_SERVER_KEY", f"{KEY}\r\nX: y")
    with pytest.raises(UsageError, match="key") as caught:
        engine(small())
    assert KEY not in str(caught.value)


# Before scoring.


def test_the_servers_version(opened):
    small, _ = opened
    same = [small(), small()]
    assert server_version([server.url for server in same]) == "vllm 0.32.0 (server)"
    silent = small(version="")
    assert server_version([silent.url]) == "openai-compatible server"
    assert server_version([small(version="<html>").url]) == "openai-compatible server"
    for other in (silent, small(version='{"version": "0.31.1"}')):
        with pytest.raises(InputError, match="different versions") as caught:
            server_version([same[0].url, other.url])
        assert other.url.removesuffix("/v1") in caught.value.details["found"]


def test_the_context_is_in_the_version_of_a_model_whose_numbers_go_by_it(opened, tmp_path):
    small, _ = opened
    model = MODEL._replace(path=tmp_path)
    servers = [small(cards=[CARD | {"max_model_len": length}]).url for length in (4096, 131_072)]
    options = ScoreParams(engine="server", server_urls=servers)
    one = options.model_copy(update={"server_urls": servers[:1]})
    (tmp_path / "config.json").write_text('{"rope_parameters": {"rope_type": "longrope"}}')
    assert version(one, model) == f"vllm 0.32.0 (server), context 4096, revision {REVISION}"
    with pytest.raises(InputError, match="different versions or contexts") as caught:
        version(options, model)
    assert "context 4096" in caught.value.details["found"] and "context 131072" in caught.value.details["found"]
    (tmp_path / "config.json").write_text('{"rope_parameters": {"rope_type": "yarn"}}')
    assert version(options, model) == f"vllm 0.32.0 (server), revision {REVISION}"


def test_at_the_start_a_server_is_asked_again_when_it_said():
    pages = iter([(503, "1"), (200, "")])

    def answer(_):
        status, rest = next(pages)
        headers = {"Retry-After": rest} if rest else {}
        return httpx.Response(status, headers=headers, json={"version": "0.32.0"})

    start = time.monotonic()
    with httpx.Client(transport=httpx.MockTransport(answer)) as asking:
        assert server_answers._get(asking, servers_of(["http://host:1"])[0], "/version").json()["version"] == "0.32.0"
    assert 1.0 <= time.monotonic() - start < 10.0


def test_a_server_that_is_not_there_at_the_start(opened):
    small, engine = opened
    gone = small()
    gone.stop()
    for ask in (lambda: server_version([gone.url]), lambda: engine(small(), gone)):
        with pytest.raises(InputError, match="cannot be reached") as caught:
            ask()
        assert gone.url.removesuffix("/v1") in str(caught.value)


@pytest.mark.parametrize("cards", ["x", ["tiny"], [{"name": "tiny"}]])
def test_what_is_no_server_of_models(opened, cards):
    small, engine = opened
    with pytest.raises(InputError, match="no OpenAI-compatible server"):
        engine(small(cards=cards))


def test_which_of_the_served_models(opened, capsys):
    small, engine = opened

    def chosen(*ids_and_roots, **options):
        cards = [{"id": i, "root": root, "max_model_len": 256} for i, root in ids_and_roots]
        return engine(small(cards=cards), **options).servers[0].model

    assert chosen(("a", "x"), ("owner/tiny", "y")) == "owner/tiny"
    assert chosen(("a", "x"), ("b", "owner/tiny")) == "b"
    assert chosen(("a", "x"), ("b", "/nowhere/tiny")) == "b"
    assert chosen(("a", "owner/tiny"), ("b", "x"), served_name="b") == "b"
    assert "taken to be" not in capsys.readouterr().err
    assert chosen(("alone", "/elsewhere")) == "alone"
    assert "'alone', which is taken to be owner/tiny" in capsys.readouterr().err
    for cards, options in (
        ((("a", "x"), ("b", "y")), {}),
        ((("a", "owner/tiny"), ("b", "y")), {"served_name": "c"}),
    ):
        with pytest.raises(InputError, match="does not serve this model") as caught:
            chosen(*cards, **options)
        assert caught.value.details["found"] == "a, b"


def test_an_adapter_is_never_asked_for_as_its_base(opened):
    """vLLM lists the base first, whose folder is the adapter's `path`."""
    small, engine = opened
    base = {"id": "/nowhere/tiny", "root": "/nowhere/tiny", "max_model_len": 256}
    lora = {"id": "mine", "root": "/nowhere/lora", "parent": base["id"]}
    adapter = MODEL._replace(name="/nowhere/lora", adapter=Path("/nowhere/lora"))
    assert engine(small(cards=(base, lora)), model=adapter).servers[0].model == "mine"
    assert engine(small(cards=(base, lora))).servers[0].model == base["id"]
    merged = small(cards=(base | {"id": "merged"},))
    assert engine(merged, model=adapter, served_name="merged").servers[0].model == "merged"
    with pytest.raises(InputError, match="does not serve this model") as caught:
        engine(small(cards=(base,)), model=adapter)
    assert "--lora-modules" in caught.value.details["remedy"]


def test_a_context_that_is_too_short(opened):
    small, engine = opened
    with pytest.raises(InputError, match="context is shorter") as caught:
        engine(small(), small(cards=[CARD | {"max_model_len": 255}]))
    assert caught.value.details["found"] == "255 tokens"
    assert caught.value.details["expected"] == "at least 256 tokens"


# The token-in, token-out endpoint.


class Rows:
    """A server with vLLM's second model runner: what comes in is read, and what goes out written, by the installed
    version's own protocol. Its prefix cache holds `held` tokens of every prompt."""

    def __init__(self, held=0):
        from vllm.entrypoints.scale_out.token_in_token_out import protocol
        from vllm.utils.serial_utils import numpy2base64

        # Imported before anything is asked: it takes seconds, and the engine waits for no answer that long.
        self.held, self.asked, self.protocol, self.coded = held, [], protocol, numpy2base64

    def __call__(self, body):
        request = self.protocol.GenerateRequest.model_validate(body)
        params, ids = request.sampling_params, request.token_ids
        self.asked.append((ids, params))
        start, given = params.prompt_logprob_start, np.asarray(params.prompt_logprob_token_ids)
        assert given.ravel().tolist() == ids[start + 1 :] and not request.stream
        scores = np.array([[logp(ids[at], at)] for at in range(start + 1, len(ids))], dtype=np.float32)
        held = self.held > start and not params.skip_reading_prefix_cache
        coded = None if held else self.coded(scores)
        answer = self.protocol.GenerateTokensResponse(choices=[], prompt_token_id_logprobs=coded)
        return 200, answer.model_dump_json()


@pytest.fixture
def rows(monkeypatch):
    pytest.importorskip("vllm")
    with opening(monkeypatch) as (start, stack):

        def small(answer, fault=None):
            pages = {"/v1/models": {"data": [CARD]}, "/version": '{"version": "0.32.0"}'}
            pages["/openapi.json"] = {"paths": {"/inference/v1/generate": {}}}
            return start("/inference/v1/generate", answer, fault, pages)

        def engine(*servers, **options):
            opened = ServerEngine(MODEL, [server.url for server in servers], backoff=0.02, timeout=20.0, **options)
            stack.callback(opened.close)
            return opened

        yield small, engine


@pytest.mark.vllm
def test_rows_of_responses_alone_are_asked_for_where_the_server_has_them(rows, capsys):
    small, engine = rows
    answer, sequences = Rows(), several(60)
    scorer = engine(small(answer))
    assert "1 of 1 servers give log-probs of responses alone" in capsys.readouterr().err
    assert scorer.logps(sequences) == pytest.approx(expected(sequences), rel=1e-6)
    asked = answer.asked[1:]  # after the try
    assert sorted(ids for ids, _ in asked) == sorted(np.concatenate(s).tolist() for s in sequences)
    assert all((p.max_tokens, p.temperature, p.top_p, p.detokenize) == (1, 0.0, 1.0, False) for _, p in asked)
    assert not any(params.skip_reading_prefix_cache for _, params in asked)


@pytest.mark.vllm
def test_rows_that_the_servers_cache_holds_are_asked_for_again(rows):
    small, engine = rows
    answer, sequences = Rows(held=20), several(60)
    assert engine(small(answer)).logps(sequences) == pytest.approx(expected(sequences), rel=1e-6)
    again = [ids for ids, params in answer.asked[1:] if params.skip_reading_prefix_cache]
    assert sorted(again) == sorted(np.concatenate(s).tolist() for s in sequences if len(s.prompt_ids) <= 20)


@pytest.mark.vllm
@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"choices": []}, "KeyError"),
        ({"prompt_token_id_logprobs": None}, "none"),
        ({"prompt_token_id_logprobs": "AAAA"}, "ValueError"),
    ],
)
def test_an_answer_without_scores(rows, body, found):
    small, engine = rows
    scorer = engine(small(Rows(), lambda server, _: (200, body) if len(server.requests) > 1 else None))
    with pytest.raises(InputError, match="returns no scores") as caught:
        scorer.logps(several(1))
    assert found in caught.value.details["found"]


@pytest.mark.parametrize(
    ("status", "why"), [(400, "requires the V2 model runner"), (404, "Not Found"), (401, "wrong key")]
)
def test_a_server_without_it_is_asked_for_whole_prompts(rows, capsys, status, why):
    small, engine = rows
    engine(small(Rows(), refuse(status, why)))
    assert f"of whole prompts: {why}" in capsys.readouterr().err


# What is too large.


def test_a_request_that_is_too_large_is_cut(opened):
    """By what stands in front of the server, which refuses it; the one sequence that is too large alone is named."""
    small, engine = opened
    sequences = several(300)

    def fault(_server, request):
        return (413, "Payload Too Large") if sum(map(len, request["prompt"])) > 150 else None

    assert engine(small(fault)).logps(sequences) == pytest.approx(expected(sequences))
    with pytest.raises(InputError, match="refuses the request") as caught:
        engine(small(fault)).logps([*sequences, sequence(140, 40)])
    assert "HTTP 413" in caught.value.details["found"]


def test_a_request_whose_answer_is_cut_short_on_its_way_is_cut(opened):
    small, engine = opened

    def cut(_, request):
        whole = json.dumps(completion(request)[1])
        return (200, whole[:6000]) if len(whole) > 6000 else None

    sequences = several(60)
    assert engine(small(cut), concurrency=2).logps(sequences) == pytest.approx(expected(sequences))


def test_a_request_that_the_servers_memory_does_not_hold_is_cut(opened):
    small, engine = opened
    sequences = several(200)

    def fault(_server, request):
        large = sum(map(len, request["prompt"])) > 150
        return (500, {"error": {"message": "CUDA out of memory"}}) if large else None

    assert engine(small(fault), concurrency=2, retries=2).logps(sequences) == pytest.approx(expected(sequences))
