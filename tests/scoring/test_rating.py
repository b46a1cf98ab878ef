"""Rating models: a rating is the model's own output on the text, whatever else is rated with it."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import byte_tokenizer, little_memory, many, pairs, save_model, save_rater, told_of_memory
from transformers import AutoTokenizer, LlamaForSequenceClassification

from curate.base.errors import InputError
from curate.models.resolve import resolve
from curate.scoring.rating import Rater, rate_pairs

HELLO = [{"role": "user", "content": "hello"}]
REPLIES = ["a brown fox", "no", "quick " * 20, "", "a brown fox!", "nö"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_rater(tmp_path_factory.mktemp("rater"))


@pytest.fixture(scope="module")
def rater(folder):
    return Rater(resolve(folder))


def alone(folder, text: str) -> float:
    """The model's output on one text, by transformers alone: at its last token."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = LlamaForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    with torch.inference_mode():
        return model.score(model.model(ids).last_hidden_state)[0, -1, 0].item()


def rate(rater: Rater, prompts: list, replies: list[str]) -> np.ndarray:
    """The rating of each reply to its prompt."""
    turns = [[*prompt, {"role": "assistant", "content": reply}] for prompt, reply in zip(prompts, replies, strict=True)]
    return rater.rate(turns, [f"response {row}" for row in range(len(replies))])


def test_a_rating_is_the_models_output_on_the_chat_template(rater, folder):
    text = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>\n"
    ratings = rate(rater, [HELLO] * len(REPLIES), REPLIES)
    assert ratings.dtype == np.float64
    assert ratings == pytest.approx([alone(folder, text.format(reply)) for reply in REPLIES], abs=1e-5)
    assert len(set(ratings)) == len(REPLIES)


def test_a_batchs_composition_does_not_matter(rater):
    prompts = [[{"role": "user", "content": f"question {i % 3}"}] for i in range(40)]
    replies = [REPLIES[i % len(REPLIES)] + str(i % 5) for i in range(40)]
    together = rate(rater, prompts, replies)
    single = [rate(rater, [prompt], [reply])[0] for prompt, reply in zip(prompts, replies, strict=True)]
    backwards = rate(rater, prompts[::-1], replies[::-1])[::-1]
    assert together == pytest.approx(single, abs=1e-5)
    assert together == pytest.approx(backwards, abs=1e-5)
    assert rate(rater, [], []).shape == (0,)


def test_a_batch_that_does_not_fit_the_memory_is_halved(folder, monkeypatch, capsys):
    rater = Rater(resolve(folder))
    replies = [f"a reply {number:02d}" for number in range(40)] + [f"{number:02d}" for number in range(20)]
    expected = rate(rater, [HELLO] * len(replies), replies)
    length = len(rater.token_ids([[*HELLO, {"role": "assistant", "content": replies[0]}]], ["one"])[0])
    asked = little_memory(monkeypatch, rater.net, 11 * length)
    told_of_memory(capsys)
    assert rate(rater, [HELLO] * len(replies), replies) == pytest.approx(expected, abs=1e-5)
    assert asked[0] > 11 * length and max(asked[2:]) <= 10 * length
    first = asked[0] // length
    assert told_of_memory(capsys) == [
        f"rate: {first} responses of {length} tokens at once do not fit the device's memory; it goes on with 10"
    ]
    little_memory(monkeypatch, rater.net, 10)
    with pytest.raises(InputError, match="a batch does not fit the device's memory") as caught:
        rate(rater, [HELLO], ["no"])
    assert caught.value.details["file"] == str(folder) and "at once: tried 1;" in str(caught.value)
    assert "smaller rating model" in caught.value.details["remedy"]


def test_pairs_are_rated_as_their_responses_are(rater, monkeypatch):
    monkeypatch.setattr("curate.scoring.rating.CHUNK", 6)
    ten = many(10)
    for side, found in zip(("chosen", "rejected"), rate_pairs(rater, ten), strict=True):
        replies = [turns[0]["content"] for turns in ten[side].to_list()]
        assert found == pytest.approx(rate(rater, ten["prompt"].to_list(), replies), abs=1e-5)


def test_what_is_wrong_shows_before_the_first_pair_is_rated(rater, monkeypatch):
    monkeypatch.setattr("curate.scoring.rating.CHUNK", 2)
    monkeypatch.setattr(rater, "rate", None)
    with pytest.raises(InputError, match="longer than the rating model's context") as error:
        rate_pairs(rater, pairs(("a", "b", "c"), ("a", "b", "c" * 300)))
    assert error.value.details["field"].endswith(", rejected")


def test_without_a_template_the_format_is_safe_rlhfs(tmp_path, capsys):
    folder = save_rater(tmp_path, template=None)
    rater = Rater(resolve(folder))
    assert "no chat template" in capsys.readouterr().err
    conversation = [*HELLO, {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "Bye"}]
    text = "BEGINNING OF CONVERSATION: USER: hello ASSISTANT:Hi.<|im_end|>USER: Bye ASSISTANT:no<|im_end|>"
    assert rate(rater, [conversation], ["no"])[0] == pytest.approx(alone(folder, text), abs=1e-5)
    with pytest.raises(InputError, match="refuses this conversation") as error:
        rate(rater, [HELLO, [{"role": "system", "content": "s"}, *HELLO]], ["a", "b"])
    assert error.value.details["field"] == "response 1" and "system" in error.value.details["found"]


@pytest.mark.parametrize("bias", [None, 1.25])
def test_safe_rlhfs_own_class_is_read(tmp_path, bias):
    """The same weights as a `LlamaForScore`, whose head has another name and perhaps a bias, and reads the last token
    even where that is the one of padding, as the end of text may be."""
    folder = save_rater(tmp_path)
    text = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nno<|im_end|>\n"
    expected = alone(folder, text) + (bias or 0)
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["LlamaForScore"], "score_dim": 1, "score_type": "cost", "bias": bias is not None}
    config["pad_token_id"] = AutoTokenizer.from_pretrained(folder)("\n")["input_ids"][-1]
    config = {name: value for name, value in config.items() if name not in ("id2label", "label2id", "num_labels")}
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    weights["score_head.weight"] = weights.pop("score.weight")
    if bias is not None:
        weights["score_head.bias"] = torch.tensor([bias])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert rate(Rater(resolve(folder)), [HELLO], ["no"])[0] == pytest.approx(expected, abs=1e-5)
    (folder / "config.json").write_text(json.dumps(config | {"do_normalize": True}))
    with pytest.raises(InputError, match="normalises"):
        Rater(resolve(folder))


def test_models_that_give_no_rating_are_refused(tmp_path):
    with pytest.raises(InputError, match="several outputs") as error:
        Rater(resolve(save_rater(tmp_path / "two", outputs=2)))
    assert error.value.details["found"] == "2: LABEL_0, LABEL_1"
    with pytest.raises(InputError, match="language model"):
        Rater(resolve(save_model(tmp_path / "policy")))
    headless = save_rater(tmp_path / "headless")
    weights = load_file(headless / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, headless / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="would be random") as error:
        Rater(resolve(headless))
    assert error.value.details["field"] == "score.weight"
    broken = save_rater(tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["score.weight"] *= torch.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="no finite number"):
        rate(Rater(resolve(broken)), [HELLO], ["a"])


def test_what_is_too_long_is_named(rater):
    with pytest.raises(InputError, match="longer than the rating model's context") as error:
        rate(rater, [HELLO] * 3, ["a", "b" * 500, "c"])
    assert error.value.details["field"] == "response 1" and "at most 256" in error.value.details["expected"]


def test_a_template_that_refuses_names_the_response(tmp_path):
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}x"
    folder = save_rater(tmp_path)
    byte_tokenizer(template).save_pretrained(folder)
    with pytest.raises(InputError, match="refuses the messages") as error:
        rate(Rater(resolve(folder)), [[{"role": "system", "content": "s"}, *HELLO]], ["a"])
    assert "no system" in error.value.details["found"]
