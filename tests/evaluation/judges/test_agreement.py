"""A judge against people: the numbers by hand, and `curate agreement` as a person calls it."""

import csv
import json
import sys

import numpy as np
import polars as pl
import pytest

import curate.cli
from curate.base import files
from curate.base.errors import InputError
from curate.evaluation.items import Judgement, Refusal
from curate.evaluation.judges.agreement import agreement, auroc, ece, read_labels, spearman
from curate.evaluation.judges.refusals import StringMatching


class Says:
    """A judge with these verdicts, by the response."""

    name = "says"
    tasks = frozenset({"harm", "compliance"})

    def __init__(self, verdicts):
        self.verdicts = verdicts

    def record(self):
        return {"judge": self.name}

    def judge(self, cases, task):
        return [self.verdicts[case.response] for case in cases]

    def close(self): ...


def write(path, rows):
    """(label, response) rows as JSON lines."""
    records = [{"prompt": "q", "response": response, "label": label, "other": 1} for label, response in rows]
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def test_the_numbers(tmp_path):
    """People: 6 harmless, 4 harmful. Judge: of the harmless 4 right, 1 wrong, 1 unparsable; of the harmful 3 right, 1
    empty. Accuracy 7/10; judged [[4, 1], [0, 3]]: p_o = 7/8, p_e = (5*4 + 3*4)/64 = 1/2, kappa = (7/8 - 1/2)/(1/2)
    = 3/4."""
    verdicts = {
        "low": Judgement(harm=0.2),
        "high": Judgement(harm=0.5),
        "none": Judgement(why="unparsable", raw="?"),
    }
    rows = [("no", "low")] * 4 + [("no", "high"), ("no", "none")] + [("yes", "high")] * 3 + [("yes", " ")]
    labelled = read_labels(write(tmp_path / "l.jsonl", rows), "harm")
    got = agreement(labelled, Says(verdicts), "harm")
    assert (got["n"], got["unjudged"], got["why"]) == (10, 2, {"empty response": 1, "unparsable": 1})
    assert got["accuracy"] == 0.7 and got["kappa"] == 0.75
    assert got["accuracy_interval"] == pytest.approx([0.3968, 0.8922], abs=1e-4)
    assert got["labels"] == ["harmless", "harmful"] and got["confusion"] == [[4, 1, 1], [0, 3, 1]]
    assert got["recall"] == {"harmless": 4 / 6, "harmful": 3 / 4}
    assert got["auroc"] == (4 * 3 + 1 * 3 / 2) / 15 and "spearman" not in got
    strict = agreement(labelled, Says(verdicts), "harm", threshold=0.6)
    assert strict["confusion"] == [[5, 0, 1], [3, 0, 1]] and strict["kappa"] == 0.0


def test_compliance(tmp_path):
    rows = [
        ("1_full_compliance", "a"),
        ("Full refusal", "b"),
        ("partial-refusal", "b"),
        ("none", "a"),
        ("full_refusal", "c"),
    ]
    verdicts = {"a": Judgement(Refusal.NONE), "b": Judgement(Refusal.FULL), "c": Judgement(why="endpoint")}
    labelled = read_labels(write(tmp_path / "l.jsonl", rows), "compliance")
    got = agreement(labelled, Says(verdicts), "compliance")
    assert got["labels"] == ["none", "partial", "full"]
    assert got["confusion"] == [[2, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    assert got["accuracy"] == 3 / 5 and "auroc" not in got
    assert agreement(labelled, Says(dict.fromkeys("abc", Judgement())), "compliance")["why"] == {"no verdict": 5}


def test_scores(tmp_path):
    scores = [0.0, 0.1, 0.4, 0.4, 0.9, 1]
    harms = [0.0, 0.3, 0.2, 0.6, 0.6, 1.0]
    rows = [(score, str(number)) for number, score in enumerate(scores)]
    verdicts = {str(number): Judgement(harm=harm) for number, harm in enumerate(harms)}
    labelled = read_labels(write(tmp_path / "l.jsonl", rows), "harm", threshold=0.4)
    assert labelled.scores == scores and labelled.labels.count("harmful") == 4
    got = agreement(labelled, Says(verdicts), "harm")
    assert got["spearman"] == pytest.approx(np.corrcoef([1, 2, 3.5, 3.5, 5, 6], [1, 3, 2, 4.5, 4.5, 6])[0, 1])


def test_calibration():
    """Tenths: {.05, .05}: mean .05, share 0; {.95, 1}: mean .975, share 1/2. ECE = (2 * .05 + 2 * .475) / 4."""
    harm, positive = np.array([0.05, 0.05, 0.95, 1.0]), np.array([False, False, True, False])
    assert ece(harm, positive) == pytest.approx((2 * 0.05 + 2 * 0.475) / 4) and ece(harm[:0], positive[:0]) is None


def test_intervals_are_over_prompts_and_lengths_are_told_apart(tmp_path):
    """39 prompts, each with the same response five times: as 39 responses, not as 195. Of the long third, a judge that
    says 0.5 of all knows nothing."""
    draw = np.random.default_rng(0)
    rows, verdicts = [], {}
    for prompt in range(39):
        harmful, long = bool(draw.integers(2)), prompt % 3 == 0
        text = f"{prompt} " + "word " * (60 if long else prompt)
        verdicts[text] = Judgement(harm=0.5 if long else 0.9 if harmful else 0.1)
        rows += [{"prompt": f"q{prompt}", "response": text, "label": harmful}] * 5
    got = []
    for name, some in (("all", rows), ("once", rows[::5])):
        (tmp_path / f"{name}.json").write_text(json.dumps(some))
        got.append(agreement(read_labels(tmp_path / f"{name}.json", "harm"), Says(verdicts), "harm"))
    widths = [np.diff(one["intervals"][name]) for one in got for name in ("accuracy", "kappa", "auroc", "ece")]
    assert np.allclose(widths[1:4], widths[5:], atol=0.05) and abs(widths[0] - widths[4]) < 0.05
    short, middle, long = got[0]["by_length"]
    assert long["words"] == [61, 61] and long["auroc"] == 0.5 and short["accuracy"] == middle["accuracy"] == 1.0


def test_ranking_by_its_definition():
    draw = np.random.default_rng(0)
    for _ in range(20):
        a, b = draw.integers(0, 6, (2, 30)) / 5
        positive = b > 0.5
        apart = a[positive][:, None] - a[~positive]
        assert auroc(a, positive) == pytest.approx(((apart > 0) + (apart == 0) / 2).mean())
        ranks = [pl.Series(values).rank("average") for values in (a, b)]
        assert spearman(a, b) == pytest.approx(np.corrcoef(ranks)[0, 1])
    assert auroc(a, np.ones(30, dtype=bool)) is None and spearman(a, np.zeros(30)) is None


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "parquet"])
@pytest.mark.parametrize("labels", [("yes", "no"), ("TRUE", "False"), ("unsafe", " safe "), ("1", "0")])
def test_files_and_spellings(tmp_path, kind, labels):
    path = tmp_path / f"l.{kind}"
    records = [{"prompt": "ünï", "response": 'a,\n"b"', "label": label} for label in labels]
    if kind == "json":
        path.write_text(json.dumps(records))
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, records)))
    elif kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["prompt", "response", "label"])
            writer.writeheader()
            writer.writerows(records)
    else:
        pl.DataFrame(records).write_parquet(path)
    got = read_labels(path, "harm")
    assert got.labels == ["harmful", "harmless"] and got.scores is None and got.cases[0].response == 'a,\n"b"'


@pytest.mark.parametrize("values", [(True, False), (1, 0), (1.0, 0.0)])
def test_labels_that_are_no_text(tmp_path, values):
    rows = [(value, "a") for value in values]
    assert read_labels(write(tmp_path / "l.jsonl", rows), "harm").labels == ["harmful", "harmless"]


@pytest.mark.parametrize(
    ("labels", "row", "found"),
    [
        (("yes", "maybe", "no"), 1, "text"),
        (("yes", "no", 0.5), 2, "0.5"),
        ((0.1, 0.2, "high"), 2, "text"),
        ((0.1, 1.5, 0.3), 1, "1.5"),
        (("yes", None), 1, "null"),
        (("yes", ["no"]), 1, "list"),
        ((float("nan"), 1), 0, "nan"),
    ],
)
def test_an_unknown_label(tmp_path, labels, row, found):
    path = write(tmp_path / "l.jsonl", [(label, "a") for label in labels])
    with pytest.raises(InputError, match="unknown label") as caught:
        read_labels(path, "harm")
    assert (caught.value.details["row"], caught.value.details["found"]) == (str(row), found)
    assert "harmless" in caught.value.details["expected"]


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"prompt": "q", "response": "a"}, ", label"),
        ({"question": "q", "response": "a", "label": 1}, "found: label, question, response"),
        ({"prompt": None, "response": "a", "label": 1}, "found: null"),
        ({"prompt": " ", "response": "a", "label": 1}, "found: blank"),
        ({"prompt": "q", "response": ["a"], "label": 1}, "found: list"),
        ({"prompt": "q", "response": "\ud800", "label": 1}, "lone surrogate"),
        ([1], "no object"),
    ],
)
def test_a_row_that_is_none(tmp_path, record, says):
    good = {"prompt": "q", "response": "a", "label": 1}
    (tmp_path / "l.json").write_text(json.dumps([good, record]))
    with pytest.raises(InputError) as caught:
        read_labels(tmp_path / "l.json", "harm")
    assert says in str(caught.value) and caught.value.details["row"] == "1"


def test_a_row_in_which_a_column_stands_twice_is_named_in_words(tmp_path):
    (tmp_path / "l.json").write_text('[{"prompt": "q", "response": "a", "label": 1, "label": 0}]')
    with pytest.raises(InputError, match="no object") as caught:
        read_labels(tmp_path / "l.json", "harm")
    assert caught.value.details["found"] == "an object with a field that stands twice (label)"


def call(monkeypatch, capsys, *arguments):
    """Exit code, standard output, and what is said beside it."""
    monkeypatch.setattr(sys, "argv", ["curate", "agreement", *map(str, arguments)])
    code = 0
    try:
        curate.cli.main()
    except SystemExit as error:
        code = int(error.code or 0)
    return code, *capsys.readouterr()


@pytest.fixture
def labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [("no", "I cannot help with secret."), ("yes", "Sure, secret."), ("no", ""), ("no", "Sure.")]
    return write(tmp_path / "l.jsonl", rows)


def test_the_command(labels, tmp_path, monkeypatch, capsys):
    code, out, err = call(monkeypatch, capsys, labels, "--judge", "refusals", "--out", "numbers/agreement.json")
    assert code == 0, err
    for line in ("responses  4", "unjudged   1 (1 empty response)", "accuracy   0.500, 95% 0.150 to 0.850"):
        assert line in out
    assert "kappa      0.400" in out and "secret" not in out + err
    assert [line.split() for line in out.splitlines()[-2:]] == [["harmless", "1", "1", "1"], ["harmful", "0", "1", "0"]]
    written = json.loads((tmp_path / "numbers" / "agreement.json").read_text())
    assert written["confusion"] == [[1, 1, 1], [0, 1, 0]]
    assert written["provenance"]["judge"]["judge"] == "refusals" and len(written["provenance"]["sha256"]) == 64


def test_the_record_is_of_the_labels_that_were_read(labels, tmp_path, monkeypatch, capsys):
    read, judged = files.file_digest(tmp_path / "l.jsonl"), StringMatching.judge

    def other_labels_meanwhile(*given):
        write(tmp_path / "l.jsonl", [("no", "Sure.")])
        return judged(*given)

    monkeypatch.setattr(StringMatching, "judge", other_labels_meanwhile)
    code, _, err = call(monkeypatch, capsys, labels, "--judge", "refusals", "--out", "agreement.json")
    assert code == 0, err
    assert files.read_json("agreement.json")["provenance"]["sha256"] == read


def test_the_command_with_a_classifier(labels, tmp_path, monkeypatch, capsys):
    from tiny import save_rater

    from curate.evaluation.judges.classifier import ClassifierJudge
    from curate.models.resolve import resolve

    folder = save_rater(tmp_path / "model", outputs=2)
    arguments = (labels, "--judge", "classifier", "--judge-model", "model", "--judge-label", "LABEL_1")
    code, out, err = call(monkeypatch, capsys, *arguments, "--threshold", "0.3", "--out", "o.json")
    assert code == 0 and "auroc" in out, err
    judge = ClassifierJudge(resolve(folder), "float32", "LABEL_1", tmp_path / "elsewhere")
    read = read_labels(labels, "harm")
    expected = agreement(read, judge, "harm", 0.3)
    written = json.loads((tmp_path / "o.json").read_text())
    assert {name: written[name] for name in expected} == expected
    assert list((tmp_path / ".curate" / "verdicts").glob("*/*.arrow"))
    code, _, err = call(monkeypatch, capsys, *arguments, "--task", "compliance")
    assert code == 1 and "unknown label" in err
    write(labels, [("full_refusal", "no")])
    code, _, err = call(monkeypatch, capsys, *arguments, "--task", "compliance")
    assert code == 2 and "does not know the task" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere.csv", "--judge", "refusals"), "no such file"),
        (("l.jsonl", "--judge", "rubric"), "judge and judge_model go together"),
        (("l.jsonl", "--judge", "strongreject", "--judge-model", "m", "--judge-url", "http://h"), "judge_url is for"),
        (("l.jsonl", "--judge", "rubric", "--judge-model", "m", "--judge-url", "h"), "not the address of a server"),
        (("l.jsonl", "--judge", "refusals", "--judge-model", "m"), "string matching takes no such option"),
        (("l.jsonl", "--judge", "refusals", "--out", "l.jsonl"), "--out must name a JSON file"),
        (("l.json", "--judge", "refusals", "--out", "./l.json"), "what is written would replace the input"),
        (("l.jsonl", "--judge", "refusals", "--out", "o.parquet"), "--out must name a JSON file"),
        (("l.jsonl", "--judge", "classifier", "--judge-model", "/no/model"), "no such model"),
    ],
)
@pytest.mark.usefixtures("labels")
def test_what_is_wrong_with_a_call(monkeypatch, capsys, arguments, says):
    code, out, err = call(monkeypatch, capsys, *arguments)
    assert code and says in err and not out and "Traceback" not in err
