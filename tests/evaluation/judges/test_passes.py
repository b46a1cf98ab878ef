"""The judges of one forward pass, on tiny random models, against the softmax worked out by hand."""

import json

import numpy as np
import pytest
import torch
from tiny import byte_tokenizer, little_memory, save_model, save_rater, told_of_memory
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from curate.base.errors import InputError, UsageError
from curate.evaluation.judges import classifier, finetuned, open_judge
from curate.evaluation.judges.base import Case
from curate.evaluation.judges.classifier import ClassifierJudge
from curate.evaluation.judges.finetuned import GRADES, RESPONSE_TOKENS, TEMPLATE, StrongRejectEvaluator
from curate.models.resolve import resolve
from curate.project.params import EvaluateParams

CASES = [
    Case(f"question {i % 7}?", text, text)
    for i, text in enumerate(
        ["No.", "Yes: like this.", "ünïcode", "{braces}", "a\n\n### Answer: 5", *map(str, range(9))]
    )
]


def params(**more):
    return EvaluateParams.model_validate(more)


@pytest.fixture(scope="module")
def grader(tmp_path_factory):
    """A random causal model; its tokenizer begins every text with a token of its own, as Gemma's does."""
    from tokenizers import processors

    folder = save_model(tmp_path_factory.mktemp("grader"), context=4096)
    tokenizer = byte_tokenizer(template=None)
    core = tokenizer.backend_tokenizer
    begin = ("<|endoftext|>", core.token_to_id("<|endoftext|>"))
    core.post_processor = processors.TemplateProcessing(single=f"{begin[0]} $A", special_tokens=[begin])
    tokenizer.save_pretrained(folder)
    return folder


def grades(net, tokenizer, case):
    """As strong_reject's evaluator goes about it: five probabilities."""
    response = tokenizer.decode(tokenizer(case.response)["input_ids"])
    text = TEMPLATE.format(question=case.question, response=response)
    with torch.inference_mode():
        logits = net(torch.tensor([tokenizer(text)["input_ids"]])).logits[0, -1].double()
    chosen = np.exp([logits[tokenizer.convert_tokens_to_ids(grade)].item() for grade in GRADES])
    return chosen / chosen.sum()


def test_the_grade_is_the_mean_under_the_softmax(grader, tmp_path):
    net = AutoModelForCausalLM.from_pretrained(grader, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(grader)
    judge = StrongRejectEvaluator(resolve(str(grader)), "float32", tmp_path)
    found = judge.judge(CASES, "harm")
    expected = [grades(net, tokenizer, case) @ [0, 0.25, 0.5, 0.75, 1] for case in CASES]
    assert [each.harm for each in found] == pytest.approx(expected, abs=1e-6)
    assert len({round(harm, 6) for harm in expected}) == len(CASES)
    assert found[0].raw is not None and found[0].raw.startswith("1: 0.") and found[0].refusal is None
    # Whatever else is judged, in whatever order.
    alone = StrongRejectEvaluator(resolve(str(grader)), "float32", tmp_path / "other")
    assert [alone.judge([case], "harm")[0].harm for case in CASES[::-1]] == pytest.approx(expected[::-1], abs=1e-6)


def test_a_long_response_keeps_its_end(grader, tmp_path):
    """The published tokenizer truncates on the left: the first token, and the last 511 of the response."""
    judge = StrongRejectEvaluator(resolve(str(grader)), "float32", tmp_path)
    ids, plain = judge.token_ids([Case("q", "x" * 2000 + "end", ""), Case("q", "end", "")])
    assert len(ids) == len(plain) - len(judge.tokenizer("end")["input_ids"]) + RESPONSE_TOKENS
    assert "xend\n\nPretend" in judge.tokenizer.decode(ids)
    assert judge.tokenizer.decode(plain).count("<|endoftext|>") == 2  # before the whole, and before the response


def test_verdicts_are_kept_by_content(grader, tmp_path, monkeypatch):
    def judge(dtype="float32"):
        return StrongRejectEvaluator(resolve(str(grader)), dtype, tmp_path)

    before = judge().judge(CASES, "harm")
    judge("bfloat16").judge(CASES[:1], "harm")
    monkeypatch.setattr("curate.evaluation.judges.finetuned.load_model", lambda *_: pytest.fail("asked again"))
    assert judge().judge([*CASES[::-1], CASES[0]], "harm") == [*before[::-1], before[0]]
    for dtype, case in (("float32", Case("q", "new", "new")), ("bfloat16", CASES[1])):
        with pytest.raises(pytest.fail.Exception):
            judge(dtype).judge([case], "harm")


def test_what_was_judged_before_a_failure_is_kept(grader, tmp_path):
    judge = StrongRejectEvaluator(resolve(str(grader)), "float32", tmp_path)
    passed = []

    def run(batch):
        if len(passed) == 3:
            raise torch.OutOfMemoryError("no room")
        passed.append(len(batch["input_ids"]))
        return torch.full((len(batch["input_ids"]), 5), 0.2)

    judge._passes._load = lambda: run
    cases = [Case("q", "a" * number, "") for number in range(1, 9)]
    with pytest.raises(InputError, match="does not fit") as caught:
        judge.judge(cases, "harm")
    assert "judge_dtype" in caught.value.details["remedy"]
    passed.append(0)
    assert [each.harm for each in judge.judge(cases, "harm")] == pytest.approx([0.5] * 8)
    assert sum(passed) == 8


@pytest.mark.parametrize("kind", ["strongreject", "classifier"])
def test_a_batch_that_does_not_fit_the_memory_is_halved(kind, grader, tmp_path, monkeypatch, capsys):
    if kind == "strongreject":
        where, load = "curate.evaluation.judges.finetuned.load_model", finetuned.load_model
        model = resolve(str(grader))
    else:
        where, load = "curate.evaluation.judges.classifier.load_classifier", classifier.load_classifier
        model = labelled(save_rater(tmp_path / "model", outputs=2), "safe", "unsafe")

    def judged(state, tokens):
        """Harms, tokens of each pass, and lines about the memory, where it holds passes of so many tokens."""
        passes = []

        def loaded(*args, **options):
            net = load(*args, **options)
            passes.append(little_memory(monkeypatch, net, tokens))
            return net

        monkeypatch.setattr(where, loaded)
        judge = (
            StrongRejectEvaluator(model, "float32", tmp_path / state)
            if kind == "strongreject"
            else ClassifierJudge(model, "float32", None, tmp_path / state)
        )
        judge._passes._budget.tokens = 10**6
        told_of_memory(capsys)
        harms = [each.harm for each in judge.judge(cases, "harm")]
        return harms, passes[0], told_of_memory(capsys)

    cases = [Case("question", f"{number:02d}", f"{number:02d}") for number in range(24)]
    cases += [Case("q", f"{number:02d}", f"{number:02d}") for number in range(12)]
    expected, passes, told = judged("roomy", 10**6)
    assert len(passes) == 2 and passes[0] % 24 == 0 and not told
    long, short = passes[0] // 24, passes[1] // 12
    harms, passes, told = judged("little", 7 * long)
    assert harms == pytest.approx(expected, abs=1e-6)
    assert passes[:3] == [24 * long, 12 * long, 6 * long] and sum(passes[2:]) == 24 * long + 12 * short
    assert told == [f"judge: 24 responses of {long:,} tokens at once do not fit the device's memory; it goes on with 6"]
    with pytest.raises(InputError, match="a batch does not fit the device's memory") as caught:
        judged("none", 10)
    assert caught.value.details["file"] == str(model.path) and "judge_dtype" in caught.value.details["remedy"]
    assert caught.value.details["found"].startswith(f"responses of {long:,} tokens at once: tried 24, 12, 6, 3, 1; ")


def test_too_long_and_not_finite(grader, tmp_path):
    judge = StrongRejectEvaluator(resolve(str(grader)), "float32", tmp_path)
    judge._passes._load = lambda: lambda batch: torch.full((len(batch["input_ids"]), 5), float("nan"))
    assert judge.judge([Case("q" * 5000, "a", "a")], "harm")[0].why == "too long for the judge"
    with pytest.raises(InputError, match="no finite one"):
        judge.judge(CASES, "harm")


def test_a_tokenizer_without_a_token_for_each_grade(tmp_path):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    folder = save_model(tmp_path / "model")
    words = Tokenizer(WordLevel({"[UNK]": 0, "1": 1, "2": 2, "4": 3}, unk_token="[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(folder)
    with pytest.raises(InputError, match="no single token") as caught:
        StrongRejectEvaluator(resolve(str(folder)), "float32", tmp_path)
    assert caught.value.details["found"] == "none for 3, 5"


def test_an_adapter_is_merged_into_its_base(grader, tmp_path):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(grader, dtype=torch.float32)
    net = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    net.peft_config["default"].base_model_name_or_path = str(grader)
    net.save_pretrained(tmp_path / "adapter")
    adapted = resolve(str(tmp_path / "adapter"))
    assert adapted.adapter == tmp_path / "adapter"
    assert adapted.digest != resolve(grader).digest and adapted.name == str(tmp_path / "adapter")
    judge = open_judge(params(judge="strongreject", judge_model=str(tmp_path / "adapter")), tmp_path / "state")
    tokenizer = AutoTokenizer.from_pretrained(grader)
    expected = [grades(net.eval(), tokenizer, case) @ [0, 0.25, 0.5, 0.75, 1] for case in CASES]
    with net.disable_adapter():
        assert grades(net, tokenizer, CASES[0]) @ [0, 0.25, 0.5, 0.75, 1] != pytest.approx(expected[0], abs=1e-4)
    assert [each.harm for each in judge.judge(CASES, "harm")] == pytest.approx(expected, abs=1e-5)
    (tmp_path / "adapter" / "adapter_model.safetensors").rename(tmp_path / "adapter" / "adapter_model.bin")
    with pytest.raises(InputError, match="no safetensors weights"):
        resolve(str(tmp_path / "adapter"))


def labelled(folder, *labels, problem=None):
    """Give a model that has as many outputs these labels."""
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(number): label for number, label in enumerate(labels)}
    config["label2id"] = {label: number for number, label in enumerate(labels)}
    config["problem_type"] = problem
    (folder / "config.json").write_text(json.dumps(config))
    return resolve(folder)


def logits(folder, case, template=True):
    """The outputs on one text, by transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    net = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    if template:
        text = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>\n"
        ids = {"input_ids": tokenizer(text.format(*case[:2]), add_special_tokens=False)["input_ids"]}
    else:
        ids = dict(tokenizer(*case[:2]))
    with torch.inference_mode():
        if template:
            out = net.score(net.model(torch.tensor([ids["input_ids"]])).last_hidden_state)[0, -1]
        else:
            out = net(**{name: torch.tensor([value]) for name, value in ids.items()}).logits[0]
    return out.double().numpy()


@pytest.mark.parametrize(
    ("labels", "problem", "label", "harm"),
    [
        (("safe", "unsafe"), None, None, lambda x: np.exp(x[1]) / np.exp(x).sum()),
        (("Harmful", "fine", "not harmful"), None, None, lambda x: np.exp(x[0]) / np.exp(x).sum()),
        (("a", "b", "c"), "multi_label_classification", "b", lambda x: 1 / (1 + np.exp(-x[1]))),
        (("toxicity",), None, None, lambda x: 1 / (1 + np.exp(-x[0]))),
    ],
)
def test_harm_is_the_probability_of_the_label(tmp_path, labels, problem, label, harm):
    model = labelled(save_rater(tmp_path / "model", outputs=len(labels)), *labels, problem=problem)
    judge = ClassifierJudge(model, "float32", label, tmp_path / "state")
    found = judge.judge(CASES, "harm")
    assert [each.harm for each in found] == pytest.approx([harm(logits(model.path, c)) for c in CASES], abs=1e-6)
    assert judge.record()["label"] == judge.label and judge.label in found[0].raw
    assert judge.record()["model"] == model.record()


def test_without_a_template_it_reads_a_pair_of_texts(tmp_path):
    """A BERT with two kinds of tokens; a pair that is too long has no verdict."""
    from tiny import wordpiece_tokenizer
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    torch.manual_seed(0)
    vocabulary = wordpiece_tokenizer(template=None).get_vocab()
    tokenizer = BertTokenizerFast(vocab=vocabulary, do_lower_case=False, model_max_length=40)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    folder = tmp_path / "bert"
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model = labelled(folder, "safe", "unsafe")
    judge = ClassifierJudge(model, "float32", "unsafe", tmp_path)
    assert {0, 1} == set(judge.inputs(CASES)[0]["token_type_ids"])
    cases = [Case("quick fox", text, text) for text in ("the lazy dog", "jumps", "a a a a")]
    expected = [np.exp(x[1]) / np.exp(x).sum() for x in (logits(folder, case, template=False) for case in cases)]
    found = judge.judge([*cases, Case("fox", "the dog " * 30, "")], "harm")
    assert [each.harm for each in found[:3]] == pytest.approx(expected, abs=1e-6)
    assert len({round(each, 6) for each in expected}) == 3
    assert (found[3].harm, found[3].why) == (None, "too long for the judge")


@pytest.mark.parametrize(
    ("labels", "label", "says"),
    [
        (("safe", "unsafe"), "harm", "safe, unsafe"),
        (("LABEL_0", "LABEL_1"), None, "0 that read so, of: LABEL_0, LABEL_1"),
        (("toxic", "hate"), None, "2 that read so"),
    ],
)
def test_a_label_that_is_not_known(tmp_path, labels, label, says):
    model = labelled(save_rater(tmp_path, outputs=len(labels)), *labels)
    with pytest.raises(UsageError) as caught:
        open_judge(params(judge="classifier", judge_model=str(model.path), judge_label=label), tmp_path / "state")
    assert says in str(caught.value) and caught.value.details["field"] == "judge_label"


def test_what_is_no_classifier(tmp_path):
    with pytest.raises(InputError, match="no classifier"):
        ClassifierJudge(resolve(save_model(tmp_path / "lm")), "float32", None, tmp_path)
    rating = labelled(save_rater(tmp_path / "rater"), "harm", problem="regression")
    with pytest.raises(InputError, match="does not classify"):
        ClassifierJudge(rating, "float32", None, tmp_path)


def test_which_judge_params_name(tmp_path, grader):
    assert open_judge(params(), tmp_path) is None
    judge = open_judge(params(judge="rubric", judge_model="served", judge_url="http://host/v1"), tmp_path)
    assert judge.tasks == {"harm", "compliance"} and judge.record()["model"]["name"] == "served"
    judge.close()
    local = open_judge(
        params(judge="rubric", judge_model=str(save_model(tmp_path / "lm")), engine="transformers"), tmp_path
    )
    [verdict] = local.judge(CASES[:1], "harm")
    assert verdict.why == "too long for the judge"  # 256 tokens of context hold no rubric
    local.close()
    assert isinstance(
        open_judge(params(judge="strongreject", judge_model=str(grader)), tmp_path), StrongRejectEvaluator
    )
    assert not list((tmp_path / "verdicts").glob("*"))  # nothing is loaded before it is wanted
