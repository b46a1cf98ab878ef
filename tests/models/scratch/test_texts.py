"""What the reference model reads, and that it holds no held-out prompt."""

import gzip
import json

import polars as pl
import pytest

from curate.base.errors import InputError
from curate.models.scratch.texts import gather
from curate.pairs.identity import prompt_key
from curate.pairs.prepare import prepare
from curate.project.params import CleaningParams, DataParams, ReferenceParams
from curate.sample.generator import sample_records

CLEANING = CleaningParams()


def read(*names, data=None, **options):
    texts = gather(ReferenceParams(texts=list(map(str, names)), **options), data or DataParams(), CLEANING)
    return [text.documents for text in texts]


def heldout(data):
    return set(prepare(data, CLEANING).pairs.filter(pl.col("split") == "heldout")["prompt_key"])


def test_sample_holds_both_training_responses_and_no_heldout_prompt(sample_pairs):
    (documents,) = read("sample")
    keys = {prompt_key(document[:1]) for document in documents}
    training = sample_pairs.filter(pl.col("split") == "train")
    assert not keys & heldout(DataParams())
    assert keys >= set(training["prompt_key"])
    for side in ("chosen", "rejected"):
        assert [*training["prompt"][0], *training[side][0]] in documents


def test_another_file_gives_no_prompt_that_is_held_out_in_the_source(tmp_path):
    """The same rows under another held-out draw would leak, were only their own split looked at."""
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(sample_records(1600, 0)[:900]))
    documents, _ = read(path, "sample")
    assert len(documents) > 500
    assert not {prompt_key(document[:1]) for document in documents} & heldout(DataParams())


def test_no_entry_asks_what_is_held_out(tmp_path):
    """Not as an instruction, a dialogue of plain text, a later turn, in other case, or under a system turn."""

    def pair(number, *before):
        prompt = [*before, {"role": "user", "content": f"How do I do number {number}?"}]
        answers = {side: [{"role": "assistant", "content": f"{side} {number}"}] for side in ("chosen", "rejected")}
        return {"prompt": prompt, **answers}

    own, other, told = (tmp_path / name for name in ("own.json", "other.json", "told.txt"))
    own.write_text(json.dumps([pair(number) for number in range(20)]))
    system = {"role": "system", "content": "Be brief."}
    other.write_text(json.dumps([pair(number, system) for number in range(20)]))
    asked = [f"how do I  do number {number}?" for number in range(20)]
    instructions = tmp_path / "instructions.json"
    instructions.write_text(json.dumps([{"instruction": one, "input": "", "output": "so"} for one in asked]))
    told.write_text("\n\n".join(f"User: Hello.\nAssistant: Hi.\nUser: {one}\nAssistant: So." for one in asked))
    data = DataParams(source=str(own), heldout_fraction=0.25)
    unseen = {row[-1]["content"] for row in prepare(data, CLEANING).pairs.filter(split="heldout")["prompt"].to_list()}
    assert len(unseen) == 5
    for texts in ([instructions], [told], [own, other], [own, instructions, told]):
        for name, documents in zip(texts, read(*texts, data=data), strict=True):
            said = {" ".join(turn["content"].lower().split()) for document in documents for turn in document}
            assert not said & {one.lower() for one in unseen}
            assert other in texts or len(documents) == 15 * (2 if name == own else 1)


def test_a_heldout_conversation_is_not_read_as_the_beginning_of_another(tmp_path):
    turns = ["User: a", "Assistant: b", "User: c"]
    prompt = [{"role": role, "content": text} for role, text in (("user", "a"), ("assistant", "b"), ("user", "c"))]
    rows = [
        {"prompt": [*prompt[:-1], {"role": "user", "content": content}], "chosen": "yes", "rejected": "no"}
        for content in ("c", "d")
    ]
    rows = [
        row | {side: [{"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")} for row in rows
    ]
    (tmp_path / "own.json").write_text(json.dumps(rows))
    data = DataParams(source=str(tmp_path / "own.json"), heldout_fraction=0.5)
    (last,) = (row[-1]["content"] for row in prepare(data, CLEANING).pairs.filter(split="heldout")["prompt"].to_list())
    turns[-1] = f"User: {last}"
    other = f"User: {'d' if last == 'c' else 'c'}"
    text = ["\n".join([*turns, "Assistant: e"]), "\n".join([*turns[:2], other, "Assistant: e"]), "\n".join(turns[:2])]
    (tmp_path / "text.txt").write_text("\n\n".join(text))
    (documents,) = read(tmp_path / "text.txt", data=data)
    assert [len(document) for document in documents] == [4, 2] and documents[0][2]["content"] == other[6:]


def test_plain_text_dialogues_and_instructions(tmp_path):
    text = "User: Hello.\nAssistant: Hi.\nAssistant: How are you?\n\nA plain\ndocument.\n \nUser: no answer"
    zipped = tmp_path / "text.txt.gz"
    zipped.write_bytes(gzip.compress(text.encode()))
    lines = tmp_path / "lines.txt"
    lines.write_text("one line\nanother\n")
    instructions = tmp_path / "alpaca.json"
    instructions.write_text(json.dumps([{"instruction": "Add.", "input": "1, 2", "output": "3"}]))
    turns = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hi.\nHow are you?"}]
    assert read(zipped, lines, instructions) == [
        [turns, "A plain\ndocument.", [{"role": "user", "content": "no answer"}]],
        ["one line", "another"],
        [[{"role": "user", "content": "Add.\n\n1, 2"}, {"role": "assistant", "content": "3"}]],
    ]


def test_a_cap_reads_the_first_documents(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(f"document {i:03d}" for i in range(500)))
    (documents,) = read(path, text_tokens=10)
    assert documents == [f"document {i:03d}" for i in range(7)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.txt", None),
        ("missing.json", None),
        ("notes.pdf", b"%PDF-1.4"),
        ("empty.txt", b"\n\n"),
        ("latin.txt", "é".encode("latin1")),
        ("cut.txt.gz", gzip.compress(b"text " * 99, mtime=0)[:-9]),
        ("bad.json", b'[{"instruction": "Add.", "output": "3"}, {"instruction": 1, "output": ""}]'),
    ],
)
def test_a_text_that_cannot_be_read_is_named(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(path)
    assert name in str(caught.value)
