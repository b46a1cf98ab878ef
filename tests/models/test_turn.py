"""Where a response begins and ends, under templates with the traits of well-known families."""

import polars as pl
import pytest
from tiny import pairs

from benchmarks.templates import (
    BOTH,
    CHATML,
    COHERE2,
    DATE_STRING,
    DATED,
    GEMMA,
    GLM4,
    LLAMA2,
    MISTRAL,
    PHI3,
    PHI4,
    QWEN3,
    R1,
    SHUT,
    SMOLLM2,
    each,
    tokenizer_of,
)
from curate.base.errors import InputError
from curate.models.rendering import (
    null_prompt_ids,
    prefill_token_ids,
    prompt_token_ids,
    render_or_set_aside,
    render_pairs,
)
from curate.models.template import TODAY
from curate.models.turn import reads_clock, turn_of
from curate.pairs.schema import MESSAGES


def row(tokenizer, prompt="the fox", chosen="brown"):
    return render_pairs(tokenizer, pairs((prompt, chosen, "dog"))).row(0, named=True)


@pytest.mark.parametrize(
    ("template", "ends", "prompt", "response", "prefill"),
    [
        (PHI4, BOTH, "<|user|>the fox<|end|><|assistant|>", "brown<|end|>", "brown"),
        (PHI4, (), "<|user|>the fox<|end|><|assistant|>", "brown<|end|>", "brown"),
        (PHI3, BOTH, "<|user|>\nthe fox<|end|>\n<|assistant|>\n", "brown<|end|>", "brown"),
        (PHI3, (), "<|user|>\nthe fox<|end|>\n<|assistant|>\n", "brown<|end|>", "brown"),
        (
            COHERE2,
            ("<|end_turn|>",),
            "<|turn|><|user|>the fox<|end_turn|><|turn|><|assistant|>",
            "<|start|>brown<|stop|><|end_turn|>",
            "<|start|>brown",
        ),
        (LLAMA2, (), "<|endoftext|>[INST] the fox [/INST]", " brown <|endoftext|>", " brown"),
        (GLM4, ("<|endoftext|>", "<|user|>"), "[gMASK]<sop><|user|>\nthe fox<|assistant|>\n", "brown<|user|>", "brown"),
        (GLM4, (), "[gMASK]<sop><|user|>\nthe fox<|assistant|>\n", "brown<|user|>", "brown"),
        (GLM4, ("<|endoftext|>",), "[gMASK]<sop><|user|>\nthe fox<|assistant|>\n", "brown<|endoftext|>", "brown"),
        (
            GEMMA,
            ("<|endoftext|>", "<end_of_turn>"),
            "<|endoftext|><start_of_turn>user\nthe fox<end_of_turn>\n<start_of_turn>model\n",
            "brown<end_of_turn>",
            "brown",
        ),
        (CHATML, (), "<|im_start|>user\nthe fox<|im_end|>\n<|im_start|>assistant\n", "brown<|im_end|>", "brown"),
        (R1, (), "<|user|>the fox<|assistant|>", "brown<|endoftext|>", "brown"),
        (
            SHUT,
            BOTH,
            "<|user|>the fox<|end|>\n<|assistant|>\n<think>\n\n</think>\n\n",
            "brown<|end|>",
            "brown",
        ),
        (
            QWEN3,
            (),
            "<|im_start|>user\nthe fox<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
            "brown<|im_end|>",
            "brown",
        ),
        (MISTRAL, (), "<|endoftext|>[INST] the fox[/INST]", " brown<|endoftext|>", " brown"),
    ],
)
def test_a_response_is_scored_to_its_end_and_a_prefill_has_none_of_it(template, ends, prompt, response, prefill):
    tokenizer = tokenizer_of(template, *ends)
    got = row(tokenizer)
    assert tokenizer.decode(got["prompt_ids"]) == prompt
    assert tokenizer.decode(got["chosen_ids"]) == response
    whole = tokenizer(prompt + response, add_special_tokens=False)["input_ids"]
    assert got["prompt_ids"] + got["chosen_ids"] == whole
    question = [{"role": "user", "content": "the fox"}]
    assert prompt_token_ids(tokenizer, [question], ["one"]) == [got["prompt_ids"]]
    (begun,) = prefill_token_ids(tokenizer, [question], ["brown"], ["one"])
    assert tokenizer.decode(begun) == prefill
    null = null_prompt_ids(tokenizer, "empty_user")
    assert tokenizer.decode(null) == prompt.replace("the fox", "")


def test_a_system_turn_that_is_folded_into_the_last_turn_stays_in_the_prompt():
    tokenizer = tokenizer_of(MISTRAL)
    system = {"role": "system", "content": "be brief"}
    question = {"role": "user", "content": "the fox"}
    earlier = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    frame = pairs(("x", "brown", "dog"), ("y", "brown", "dog"))
    prompts = [[system, question], [system, *earlier, question]]
    frame = frame.with_columns(prompt=pl.Series(prompts, dtype=MESSAGES))
    first, second = render_pairs(tokenizer, frame).iter_rows(named=True)
    assert tokenizer.decode(first["prompt_ids"]) == "<|endoftext|>[INST] be brief\n\nthe fox[/INST]"
    assert tokenizer.decode(second["prompt_ids"]) == (
        "<|endoftext|>[INST] a[/INST] b<|endoftext|>[INST] be brief\n\nthe fox[/INST]"
    )
    for one in (first, second):
        assert tokenizer.decode(one["chosen_ids"]) == " brown<|endoftext|>"


@pytest.mark.parametrize("template", [R1, QWEN3])
@pytest.mark.parametrize("response", ["a quick fox</think>brown", "<think>\nquick\n</think>\n\nbrown"])
def test_a_response_that_holds_a_thought_is_named_with_the_way_out(template, response):
    with pytest.raises(InputError, match="for a thought") as caught:
        row(tokenizer_of(template), chosen=response)
    assert "chosen" in caught.value.details["field"] and "unrenderable: reject" in caught.value.details["remedy"]
    assert "quick" not in str(caught.value)


def test_a_thought_is_text_to_a_template_that_knows_none():
    tokenizer = tokenizer_of(CHATML)
    got = row(tokenizer, chosen="<think>quick</think>brown")
    assert tokenizer.decode(got["chosen_ids"]) == "<think>quick</think>brown<|im_end|>"


def test_a_generation_prompt_that_no_response_follows_is_refused():
    template = CHATML.replace(
        "{% if add_generation_prompt %}<|im_start|>assistant\n", "{% if add_generation_prompt %}>"
    )
    with pytest.raises(InputError, match="renders the prompt differently"):
        row(tokenizer_of(template))


UNWRITTEN = CHATML.replace("{% for m in messages %}", "{% for m in messages if m['role'] in ('user', 'assistant') %}")


@pytest.mark.parametrize(
    ("template", "roles", "found"),
    [
        (UNWRITTEN, ("system", "user"), "turn 1 of 2, of system"),
        (UNWRITTEN, ("user", "assistant", "tool", "user"), "turn 3 of 4, of tool"),
        (UNWRITTEN, ("user", "assistant", "user"), None),
        (CHATML, ("system", "user", "assistant", "tool", "user"), None),
        (MISTRAL, ("system", "user", "assistant", "user"), None),
        (LLAMA2, ("system", "user"), "turn 1 of 2, of system"),
        (
            CHATML.replace("in messages %}", "in messages[-2:] %}"),
            ("user", "assistant", "user"),
            "turn 1 of 3, of user",
        ),
    ],
)
def test_a_turn_that_the_template_leaves_out_of_a_prompt_is_told(template, roles, found):
    """The pair would be scored, and trained on, after a prompt that it does not have."""
    tokenizer = tokenizer_of(template)
    frame = pairs(("x", "brown", "dog"), ("the fox", "brown", "dog"))
    prompt = [{"role": role, "content": "the fox"} for role in roles]
    frame = frame.with_columns(prompt=pl.Series([frame["prompt"][0].to_list(), prompt], dtype=MESSAGES))
    if found is None:
        assert render_pairs(tokenizer, frame).height == 2
        return
    with pytest.raises(InputError, match="leaves a turn of the prompt out") as caught:
        render_pairs(tokenizer, frame)
    assert caught.value.details["found"] == found and frame["pair_id"][1] in caught.value.details["field"]
    rendered, faults = render_or_set_aside(tokenizer, frame)
    assert rendered["pair_id"].to_list() == frame["pair_id"].head(1).to_list()
    assert faults == {frame["pair_id"][1]: f"the chat template leaves a turn of the prompt out: {found}"}


@pytest.mark.parametrize(
    ("template", "own"),
    [
        (SMOLLM2, "system You are a helpful fox"),
        (DATED, "26 July 2024"),
        (each("USER: %s ", "ASSISTANT: %s{{ eos_token }}", front="A chat with a fox. "), "A chat with a fox."),
        *((template, "") for template in (CHATML, GEMMA, LLAMA2, GLM4, PHI3, MISTRAL)),
    ],
)
def test_a_system_turn_of_the_templates_own_is_found(template, own):
    assert turn_of(tokenizer_of(template)).system == own


@pytest.mark.parametrize("template", [DATED, DATE_STRING])
def test_the_clock_stands_still(template, monkeypatch):
    import transformers.utils.chat_template_utils as theirs

    tokenizer = tokenizer_of(template)
    before = row(tokenizer)

    class Tomorrow(theirs.datetime):
        @classmethod
        def now(cls):
            return cls(2099, 1, 2)

    monkeypatch.setattr(theirs, "datetime", Tomorrow)
    theirs._compile_jinja_template.cache_clear()
    assert "2099" in tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)
    assert row(tokenizer) == before
    assert f"{TODAY:%d}" in tokenizer.decode(before["prompt_ids"]) and "2024" in tokenizer.decode(before["prompt_ids"])
    assert reads_clock(tokenizer) and not reads_clock(tokenizer_of(CHATML))


def test_a_template_that_runs_on_is_stopped_and_its_model_named(monkeypatch):
    from curate.models import template

    monkeypatch.setattr(template, "SECONDS", 0.3)
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    tokenizer = tokenizer_of(loop + CHATML)
    tokenizer.name_or_path = "a/model"
    with pytest.raises(InputError, match="runs on and was stopped") as caught:
        row(tokenizer)
    assert caught.value.details["file"] == "a/model"
    only_answers = tokenizer_of("{% if messages|length > 1 %}" + loop + "{% endif %}" + CHATML)
    with pytest.raises(InputError, match="runs on"):
        row(only_answers)
    assert row(tokenizer_of(CHATML))  # nothing of it is left pending in this thread


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ raise_exception(messages[0]['content']) }}", "TemplateError"),
        ("{{ raise_exception('one turn only: ' + messages[0]['content']) }}", "TemplateError"),
        ("{{ messages[0][messages[0]['content']].x }}", "UndefinedError"),
        ("{{ raise_exception('one turn only, please') }}", "one turn only, please"),
        ("{{ nothing.at.all }}", "'nothing' is undefined"),
    ],
)
def test_a_template_that_refuses_says_so_in_its_own_words_alone(template, says):
    with pytest.raises(InputError, match="refuses the messages") as caught:
        row(tokenizer_of(template), prompt="secret words")
    assert says in caught.value.details["found"]
    error = caught.value
    assert "secret" not in str(error) and error.__cause__ is None and error.__suppress_context__
