"""Answers from an endpoint, against a small one with every fault. tests/test_real_server.py has a real one."""

import gc
import os
import signal
import threading
import time

import pytest
from loopback import KEY, first, opening, refuse

from curate.base.errors import InputError, UsageError
from curate.evaluation.generation.base import Ask, Sampling
from curate.evaluation.generation.cache import key
from curate.evaluation.generation.endpoint import FORMAT, EndpointChat
from curate.evaluation.items import Response

GREEDY = Sampling(20)
DRAWN = Sampling(20, temperature=0.7, top_p=0.9, seed=3)


def ask(text, **more):
    return Ask([{"role": "user", "content": text}], **more)


def asks(count):
    return [ask(f"question {i}") for i in range(count)]


def completion(text, reason="stop", tokens=3):
    choice = {"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": text}}
    return 200, {"object": "chat.completion", "choices": [choice], "usage": {"completion_tokens": tokens}}


def echo(request):
    return completion(f"to {request['messages'][-1]['content']}: {request['seed']}")


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Open small endpoints and clients, closed at the end; the clients of a test share a cache folder."""
    with opening(monkeypatch) as (start, stack):

        def small(fault=None):
            return start("/v1/chat/completions", echo, fault)

        def chat(server, name="tiny", **options):
            url = server if isinstance(server, str) else server.url
            made = EndpointChat(url, name, tmp_path / "state", **{"backoff": 0.02, "timeout": 20.0} | options)
            stack.callback(made.close)
            return made

        yield small, chat


# What is sent, and what comes back.


def test_answers_in_the_order_given_each_asked_once(opened):
    small, chat = opened
    server = small(lambda *_: time.sleep(0.01))
    wanted = asks(60)
    got = chat(server, concurrency=4).chat([*wanted, *wanted[:5]], GREEDY)
    assert got == [Response(f"to question {i}: 0", "stop", 3) for i in [*range(60), *range(5)]]
    assert len(server.requests) == 60 and server.most == 4
    by_text = {request["messages"][0]["content"]: request for request in server.requests}
    assert by_text["question 7"] == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "question 7"}],
        "max_tokens": 20,
        "temperature": 0.0,
        "top_p": 1.0,
        "seed": 0,
    }


def test_draws_have_seeds_of_their_own_and_greedy_answers_none(opened):
    small, chat = opened
    server = small()
    model = chat(server)
    several = [ask("q", sample=number) for number in range(3)]
    assert len(set(model.chat(several, DRAWN))) == 3
    assert all(r["temperature"] == 0.7 and r["top_p"] == 0.9 for r in server.requests)
    other = model.chat(several, DRAWN._replace(seed=4))
    seeds = {request["seed"] for request in server.requests}
    assert len(seeds) == 6 and all(0 <= seed < 2**31 for seed in seeds) and len(set(other)) == 3
    assert len(set(model.chat(several, GREEDY))) == 1 and len(server.requests) == 7


def test_what_was_answered_is_not_asked_again_wherever_the_model_is_served(opened):
    small, chat = opened
    server = small()
    before = chat(server).chat(asks(8), GREEDY)
    server.stop()
    assert chat("http://127.0.0.1:9/v1").chat(asks(8), GREEDY) == before
    # Another model, other draws, other words: all are new.
    other = small()
    for name, sampling, wanted in (
        ("small", GREEDY, asks(8)),
        ("tiny", GREEDY._replace(max_tokens=21), asks(8)),
        ("tiny", DRAWN, asks(8)),
        ("tiny", GREEDY, [ask(f"Question {i}") for i in range(8)]),
    ):
        count = len(other.requests)
        chat(other, name).chat(wanted, sampling)
        assert len(other.requests) == count + 8


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (completion("so far", "length", 20), Response("so far", "length", 20)),
        (completion(None), Response(None, "error", 3)),
        (completion("", tokens=0), Response(None, "error", 0)),
        (completion("half a", "content_filter"), Response(None, "error", 3)),
        (completion("no", "refusal"), Response(None, "error", 3)),
        (completion("yes", None, None), Response("yes", "stop", 0)),
        (completion("\ud800ü\u2028"), Response("?ü\u2028", "stop", 3)),
    ],
)
def test_how_an_answer_ended(opened, answer, expected):
    small, chat = opened
    server = small(lambda *_: answer)
    for _ in range(2):
        assert chat(server).chat([ask("q\ud83d")], GREEDY) == [expected]
    assert len(server.requests) == (1 if expected.text else 2)  # where there was no text, it is asked again


def test_a_null_answer_that_was_kept_before_is_asked_again(opened):
    small, chat = opened
    server = small(lambda *_: completion(None) if len(server.requests) == 1 else None)
    model = chat(server)
    model._cache.add([key(FORMAT, model._body(ask("q"), GREEDY))], ['{"text": null, "finish": "error", "tokens": 3}'])
    for text in (None, "to q: 0", "to q: 0"):
        assert chat(server).chat([ask("q")], GREEDY)[0].text == text
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "error",
    [
        {"message": "This model's maximum context length is 256 tokens", "code": 400},
        {"message": "please shorten", "code": "context_length_exceeded"},
    ],
)
def test_a_conversation_without_room_is_no_failure_and_not_kept(opened, error):
    small, chat = opened
    server = small(lambda _, request: (400, {"error": error}) if "long" in str(request) else None)
    for count in (3, 4):
        got = chat(server).chat([ask("long"), ask("a"), ask("b")], GREEDY)
        assert [each.finish for each in got] == ["too_long", "stop", "stop"] and got[0].text is None
        assert len(server.requests) == count


def test_a_prefill_is_refused(opened):
    small, chat = opened
    server = small()
    with pytest.raises(UsageError, match="cannot be made to begin"):
        chat(server).chat([ask("a"), ask("b", prefill="Sure", prefill_tokens=1)], GREEDY)
    assert not server.requests
    assert chat(server).chat([ask("b", prefill="Sure", prefill_tokens=0)], GREEDY)[0].prefill == ""


def test_nothing_to_ask(opened):
    _, chat = opened
    assert chat("http://127.0.0.1:9").chat([], GREEDY) == []


@pytest.mark.parametrize("address", ["host:8000", "ftp://me:hush@host/v1", "http://me:hush@host/v1?key=1"])
def test_what_is_no_address(opened, address):
    _, chat = opened
    with pytest.raises(UsageError, match="not the address") as caught:
        chat(address)
    assert "hush" not in str(caught.value)


def test_the_record_tells_no_address(opened):
    _, chat = opened
    record = str(chat("http://me:hush@host:1/v1").record())
    assert "tiny" in record and "host" not in record and "hush" not in record


# Faults that pass.


def test_429_is_asked_again_when_the_endpoint_said(opened):
    small, chat = opened
    server = small(first(2, refuse(429, "slow down", Retry_After="1")))
    start = time.monotonic()
    assert len(chat(server, concurrency=2).chat(asks(6), GREEDY)) == 6
    assert 1.0 <= time.monotonic() - start < 10.0
    assert len(server.requests) == 8


def test_faults_in_passing(opened):
    """503, a connection that is cut in the middle of an answer, and no answer in time: each request is kept up."""
    small, chat = opened
    over = threading.Event()

    def fault(server, _request):
        number = len(server.requests)
        if number == 1:
            return refuse(503)()
        if number == 2:
            return 200, "{", {"Content-Length": "100000", "Connection": "close"}
        return over.wait(20) and None if number == 3 else None

    server = small(fault)
    try:
        got = chat(server, timeout=1.0, concurrency=1).chat(asks(3), GREEDY)
    finally:
        over.set()
    assert [each.text for each in got] == [f"to question {i}: 0" for i in range(3)]
    assert len(server.requests) == 6


# Faults that do not.


def test_an_endpoint_that_dies_in_the_middle_and_comes_back(opened):
    """What it had answered is kept; when it is back, only the rest is asked."""
    small, chat = opened

    def dies(server, _request):
        with server.lock:
            server.served = getattr(server, "served", 0) + 1
            return None if server.served <= 25 else refuse(500, "out of memory")()

    server = small(dies)
    model = chat(server, retries=1, concurrency=3)
    # Which it is first found to be, dead or deaf to one request, is a matter of timing.
    with pytest.raises(InputError, match=r"does not answer|fails on one request") as caught:
        model.chat(asks(40), GREEDY)
    assert "25 of 40 new answers are kept" in caught.value.details["remedy"]
    assert "out of memory" in caught.value.details["found"]
    server.fault, asked = None, len(server.requests)
    assert [each.text for each in model.chat(asks(40), GREEDY)] == [f"to question {i}: 0" for i in range(40)]
    assert len(server.requests) == asked + 15


def test_an_endpoint_that_is_not_there(opened):
    small, chat = opened
    gone = small()
    gone.stop()
    with pytest.raises(InputError, match="does not answer") as caught:
        chat(gone, retries=1).chat(asks(20), GREEDY)
    assert "0 of 20" in caught.value.details["remedy"] and gone.url.removesuffix("/v1") in str(caught.value)


def test_a_request_that_always_fails_beside_ones_that_do_not(opened):
    small, chat = opened
    server = small(lambda _, request: refuse(500, "boom")() if "question 3" in str(request) else time.sleep(0.02))
    with pytest.raises(InputError, match="on one request again and again") as caught:
        chat(server, retries=2, concurrency=4).chat([*asks(4), *asks(400)[10:]], GREEDY)
    assert "boom" in caught.value.details["found"]


def test_answers_on_their_way_are_waited_for(opened):
    """One request is refused at once while three others are being answered: their answers are kept."""
    small, chat = opened
    server = small(lambda _, request: refuse(400, "no")() if "question 0" in str(request) else time.sleep(0.5))
    with pytest.raises(InputError, match="refuses the request") as caught:
        chat(server, concurrency=4).chat(asks(50), GREEDY)
    assert "3 of 50" in caught.value.details["remedy"] and len(server.requests) == 4


@pytest.fixture
def interruptible():
    """A process that was started in the background ignores the signal until it is told not to."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_call_ends_at_once_and_goes_on_where_it_was(opened, caplog):
    small, chat = opened
    server = small(lambda *_: time.sleep(0.05))
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    interrupted = chat(server, concurrency=2)
    with pytest.raises(KeyboardInterrupt):
        interrupted.chat(asks(1000), GREEDY)
    interrupted.close()
    gc.collect()
    assert caplog.text == ""  # else asyncio tells of a task that was destroyed
    time.sleep(0.5)
    asked = len(server.requests)
    assert 0 < asked < 200
    got = interrupted.chat(asks(asked), GREEDY)  # opens again
    assert [each.text for each in got] == [f"to question {i}: 0" for i in range(asked)]
    assert len(server.requests) <= asked + 2  # what was on its way


@pytest.mark.parametrize("status", [400, 404, 422, 307])
def test_a_refusal_is_not_asked_again(opened, status):
    small, chat = opened
    server = small(refuse(status, "not so", Location="/v1/chat/completions"))
    with pytest.raises(InputError, match="refuses the request") as caught:
        chat(server).chat([ask("q")], GREEDY)
    assert f"HTTP {status}: not so" in caught.value.details["found"] and len(server.requests) == 1
    assert ("model's name" in caught.value.details["remedy"]) == (status == 404)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_not_shown(opened, monkeypatch, status):
    small, chat = opened
    server = small(refuse(status, f"no such key: {KEY}"))
    with pytest.raises(InputError, match="wants a key"):
        chat(server).chat([ask("q")], GREEDY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(InputError, match="refuses the key") as caught:
        chat(server).chat([ask("q")], GREEDY)
    assert KEY not in str(caught.value) and server.keys == {None, f"Bearer {KEY}"}


@pytest.mark.parametrize(
    "body",
    ["<html>", "", "[]", "{}", '{"choices": []}', '{"choices": [{}]}', '{"choices": [{"message": {"content": 3}}]}'],
)
def test_an_answer_that_is_none(opened, body):
    small, chat = opened
    with pytest.raises(InputError, match="no chat completion"):
        chat(small(lambda *_: (200, body))).chat([ask("q")], GREEDY)


# The real server.
