"""A model that answers conversations: rendered exactly, cached, and the same after any interruption."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from tiny import byte_tokenizer, metaspace_tokenizer, pairs, save_model, small

from curate.base.errors import InputError
from curate.evaluation.generation.base import Ask, Request, Sampling
from curate.evaluation.generation.local import LocalChat
from curate.evaluation.generation.transformers import TransformersGeneration
from curate.models import rendering
from curate.models.resolve import resolve

GREEDY = Sampling(max_tokens=24)
DRAWN = Sampling(max_tokens=24, temperature=1.0, top_p=0.95, seed=5)


def user(text):
    return [{"role": "user", "content": text}]


ASKS = [Ask(user("the fox " * (1 + number % 7) + str(number))) for number in range(20)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(folder):
    return resolve(folder)


def chat_of(model, state):
    return LocalChat(model, "float32", "transformers", state)


def test_what_is_in_the_cache_is_not_generated_again(model, tmp_path):
    chat = chat_of(model, tmp_path)
    greedy, drawn = chat.chat(ASKS, GREEDY), chat.chat(ASKS, DRAWN)
    assert chat.generated == 2 * len(ASKS) and greedy != drawn
    chat.close()

    again = chat_of(model, tmp_path)
    assert again.chat([*reversed(ASKS)], DRAWN) == [*reversed(drawn)]
    # Without effect at temperature 0: seed, top_p, the number of the draw.
    assert again.chat([ask._replace(sample=3) for ask in ASKS], Sampling(24, top_p=0.5, seed=9)) == greedy
    assert again.generated == 0 and again._opened is None
    for other in (DRAWN._replace(seed=6), DRAWN._replace(temperature=1.1), DRAWN._replace(top_p=0.9)):
        assert again.chat(ASKS[:1], other)
    again.chat([ASKS[0]._replace(sample=1), ASKS[0]._replace(sample=1)], DRAWN)
    assert again.generated == 4
    assert LocalChat(model, "bfloat16", "transformers", tmp_path).cache.folder != chat.cache.folder
    (label,) = tmp_path.glob("generations/*/scope.json")
    assert json.loads(label.read_text())["model"] == model.digest
    assert again.record() == model.record() | {"dtype": "float32", "engine": again.version}


def test_the_draws_of_one_conversation_differ_and_stay(model, tmp_path):
    asks = [Ask(user("the fox"), sample=number) for number in range(8)]
    answers = chat_of(model, tmp_path / "one").chat(asks, DRAWN)
    assert len({answer.text for answer in answers}) > 4
    assert [*reversed(answers)] == chat_of(model, tmp_path / "two").chat([*reversed(asks)], DRAWN)


def test_the_context_limits_an_answer(model, tmp_path):
    tokenizer = rendering.load_tokenizer(model)
    frame = len(rendering.prompt_token_ids(tokenizer, [user("")], ["a"])[0])
    texts = {room: "#" * (model.context - frame - room) for room in (30, 5, 1, 0, -9)}  # one token each
    lengths = [len(ids) for ids in rendering.prompt_token_ids(tokenizer, [*map(user, texts.values())], [*"abcde"])]
    assert [model.context - length for length in lengths] == [*texts]
    chat = chat_of(model, tmp_path)
    answers = dict(zip(texts, chat.chat([Ask(user(text)) for text in texts.values()], GREEDY), strict=True))
    for room, most in {30: 24, 5: 5, 1: 1}.items():
        assert answers[room].tokens == most if answers[room].finish == "length" else answers[room].tokens < most
    assert {answers[5].finish, answers[1].finish} == {"length"}
    assert answers[0] == answers[-9] == (None, "too_long", 0, "")
    assert chat.generated == 3


def test_errors_come_before_the_first_answer(tmp_path):
    save_model(tmp_path / "bare")
    byte_tokenizer(template=None).save_pretrained(tmp_path / "bare")
    (tmp_path / "bare" / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(InputError, match="no chat template"):
        chat_of(resolve(tmp_path / "bare"), tmp_path).chat(ASKS, GREEDY)

    strict = save_model(tmp_path / "strict")
    byte_tokenizer("{{ raise_exception('no') if messages[0]['role'] == 'system' }}<|im_start|>").save_pretrained(strict)
    chat = chat_of(resolve(strict), tmp_path)
    with pytest.raises(InputError, match="refuses the messages") as caught:
        chat.chat([*ASKS, Ask([{"role": "system", "content": "be brief"}])], GREEDY)
    assert caught.value.details["field"] == f"conversation {len(ASKS)}"
    assert chat.generated == 0 and not (tmp_path / "generations").exists()


@pytest.mark.parametrize("family", ["bytes", "metaspace"])
def test_a_prefilled_answer_goes_on_after_the_first_tokens_of_the_rendered_response(family, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = byte_tokenizer() if family == "bytes" else metaspace_tokenizer()
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(small("llama", vocab_size=len(tokenizer))).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    model = resolve(tmp_path / "model")
    prefill = "quick brown foxes jump"
    row = rendering.render_pairs(tokenizer, pairs(("the dog", prefill, "no"))).row(0, named=True)
    response, prompt = row["chosen_ids"], row["prompt_ids"]
    whole = len(response) - 1  # without the end of turn
    counts = [0, 1, 4, whole, whole + 50]
    chat = chat_of(model, tmp_path)
    answers = chat.chat([Ask(user("the dog"), prefill, count) for count in counts], Sampling(8))
    engine = TransformersGeneration(model, "float32", rendering.stop_token_ids(tokenizer, model))
    for count, answer in zip(counts, answers, strict=True):
        begun = response[: min(count, whole)]
        ids = np.array([*prompt, *begun], dtype=np.int32)
        (expected,) = engine.generate([Request(ids, 8, 0.0, 1.0, 0)])
        assert answer.prefill == tokenizer.decode(begun, skip_special_tokens=True)
        assert answer.whole == tokenizer.decode(begun + expected.ids, skip_special_tokens=True)
        assert (answer.tokens, answer.finish) == (len(expected.ids), expected.finish)
    assert answers[3] == answers[4] and answers[3].prefill == prefill


KILLED = """
# Imports everything once; then forks a chat for each line read, and says how each one ended.
import json, os, signal, sys
from pathlib import Path
import curate.base.threads, curate.models.load
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM
from curate.models.resolve import resolve
from curate.evaluation.generation import cache, local, transformers
from curate.evaluation.generation.base import Ask, Sampling

local.BATCH_TOKENS["cpu"] = 400
for line in sys.stdin:
    model, state, asks, sampling, instant = json.loads(line)
    child = os.fork()
    if child == 0:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()
left = instant


def moment():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def watched(function):
    def call(*arguments):
        moment()
        result = function(*arguments)
        moment()
        return result

    return call


write_bytes = Path.write_bytes


def torn(path, content):
    write_bytes(path, bytes(content)[: len(content) // 2])
    moment()
    return write_bytes(path, content)


transformers.TransformersGeneration.generate = watched(transformers.TransformersGeneration.generate)
Path.write_bytes = torn
chat = local.LocalChat(resolve(model), "float32", "transformers", Path(state))
answers = chat.chat([Ask(*ask) for ask in asks], Sampling(*sampling))
Path(state, "answers.json").write_text(json.dumps(answers))
Path(state, "generated").write_text(str(chat.generated))
os._exit(0)
"""


def test_killed_at_any_moment_it_goes_on_and_ends_in_the_same_answers(folder, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

    def run(state, sampling, instant=-1):
        print(json.dumps([str(folder), str(tmp_path / state), ASKS, sampling, instant]), file=process.stdin, flush=True)
        return int(process.stdout.readline())

    for name, sampling in (("greedy", GREEDY), ("drawn", DRAWN)):
        assert run(f"{name} whole", sampling) == 0
        # Before a batch, after one, and in the middle of a shard's write; each leaves what was finished before.
        kills = (4, 5, 6)
        assert [run(f"{name} killed", sampling, instant) for instant in kills] == [-signal.SIGKILL] * len(kills)
        assert run(f"{name} killed", sampling) == 0
        whole, killed = (tmp_path / f"{name} {run}" for run in ("whole", "killed"))
        assert (killed / "answers.json").read_bytes() == (whole / "answers.json").read_bytes()
        generated = [int((state / "generated").read_text()) for state in (whole, killed)]
        assert generated[0] == len(ASKS) and 0 < generated[1] < len(ASKS) / 2
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    process.stdout.close()
    process.stderr.close()
