"""What goes into the folder: files, card, manifest; and what licences and an owner's card allow."""

import hashlib
import json
from pathlib import Path

import polars as pl
import pytest
import yaml
from artefacts import frame

from curate.base import files
from curate.base.errors import InputError, OutputError, UsageError
from curate.evaluation import sources
from curate.hub import dataset, licences, merge
from curate.hub import publish as publishing
from curate.hub.lineage import lineage
from curate.pairs import schema
from curate.project.params import EvaluateParams, PublishParams


@pytest.fixture
def rehearse(tmp_path, monkeypatch):
    """Write the folder of a frame; gives its path and the card's YAML."""
    monkeypatch.chdir(tmp_path)

    def run(pairs, out="folder", prepare=None, **options):
        files.write_parquet(pairs, "weights.parquet", {})
        if prepare is not None:
            files.write_json(prepare, tmp_path / "prepare.json")
            prepare = tmp_path / "prepare.json"
        params = PublishParams(**options)
        publishing.rehearse(tmp_path / "weights.parquet", "me/data", params, prepare=prepare, out=tmp_path / out)
        text = (tmp_path / out / "README.md").read_text()
        return tmp_path / out, text, yaml.safe_load(text.split("---\n")[1])

    return run


def nobody(source):
    raise AssertionError(f"the Hub was asked about {source}")


def test_the_same_pairs_are_the_same_bytes_and_only_our_columns_go(rehearse, capsys):
    pairs = frame(60).with_columns(secret=pl.lit("mine"))
    first, _, _ = rehearse(pairs, "one")
    assert "columns that are not curate's stay here: secret" in capsys.readouterr().err
    second, card, _ = rehearse(pairs, "two")
    names = sorted(path.relative_to(first).as_posix() for path in first.rglob("*") if path.is_file())
    assert len(names) == 7
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
    assert not any(b"mine" in (first / name).read_bytes() for name in names)
    assert all(f"| {name} |" in card for name in schema.columns(*schema.STAGES)) and "secret" not in card


PREPARED = {"source": "sample", "read": 120, "kept": 119, "rejected": 1, "rules": {}}


def test_the_card_tells_of_every_pair_that_is_not_here(rehearse):
    pairs = frame(120)
    _, card, _ = rehearse(pairs.head(48), prepare=PREPARED)
    assert "120 rows were read, 119 kept, 1 refused: those are not here.\nOf those kept 71 were set aside" in card
    _, card, _ = rehearse(pairs.head(119), prepare=PREPARED)
    assert "119 kept" in card and "set aside" not in card


@pytest.mark.parametrize(
    ("other", "found"),
    [({"source": "mine.jsonl"}, "of mine.jsonl"), ({"kept": 47}, "47 pairs kept"), ({"read": 40}, "40 rows read")],
)
def test_a_summary_of_other_pairs_is_refused(rehearse, other, found):
    with pytest.raises(InputError, match="of other pairs") as error:
        rehearse(frame(48), prepare=PREPARED | other)
    assert error.value.details["found"] == found


def test_the_suite_of_held_out_prompts_reads_a_folder(rehearse, tmp_path):
    def prompts(source):
        [named] = sources.parse(EvaluateParams(suites=[f"heldout={source}"]))
        return {(item.item, item.group) for item in sources.load(named, 0, 0).items}

    folder, _, _ = rehearse(frame(60))
    assert prompts(folder) == prompts(tmp_path / "weights.parquet") != set()
    test = folder / "data" / "test-00000-of-00001.parquet"
    test.write_bytes((folder / "data" / "train-00000-of-00001.parquet").read_bytes())
    with pytest.raises(InputError, match="not the one that was published") as error:
        prompts(folder)
    assert test.name in error.value.details["field"]
    manifest = json.loads((folder / "curate.json").read_text())
    outside = {"configs": {"default": {"test": ["../x"]}}, "files": {"../x": manifest["files"][f"data/{test.name}"]}}
    for other, said in (({"arm": "dpo"}, "no dataset that curate"), (manifest | outside, "that this version")):
        (folder / "curate.json").write_text(json.dumps(other))
        with pytest.raises(InputError, match=said):
            prompts(folder)


def test_large_data_comes_in_shards_whose_order_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "SHARD_ROWS", 20)
    pairs = frame(60)
    configs = dataset.write(pairs, tmp_path)
    parts = configs["default"]["train"]
    assert [part.rows for part in parts][:-1] == [20] * (len(parts) - 1) and len(parts) > 2
    assert parts[0].path == f"data/train-00000-of-{len(parts):05}.parquet"
    back = dataset.read([tmp_path / part.path for part in parts])
    assert back.equals(pairs.filter(split="train")) and back.schema == pairs.schema


def test_without_subsets_or_held_out_pairs_there_are_none(rehearse):
    bare = (
        frame(60)
        .drop("balanced", "imbalanced", "random")
        .with_columns(split=pl.lit("train").cast(schema.PAIRS["split"]))
    )
    folder, card, front = rehearse(bare)
    assert [path.name for path in (folder / "data").iterdir()] == ["train-00000-of-00001.parquet"]
    assert [config["config_name"] for config in front["configs"]] == ["default"]
    assert "| default | all pairs | 60 | 0 |" in card


def test_pairs_that_would_vanish_are_refused(rehearse):
    pairs = frame(20)
    with pytest.raises(InputError, match="4 rows: null"):
        rehearse(pairs.with_columns(split=pl.when(pl.int_range(pl.len()) > 3).then("split")))
    with pytest.raises(InputError, match="nothing to publish"):
        rehearse(pairs.clear(), license="mit")


def test_a_prompt_on_both_sides_is_refused_for_the_card_says_that_none_is(rehearse):
    pairs = frame(20).with_columns(prompt_key=pl.lit("one"))
    with pytest.raises(InputError, match="on both sides of the split"):
        rehearse(pairs)


def test_a_folder_of_something_else_is_not_replaced(rehearse, tmp_path):
    """A trained model has a curate.json too."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "curate.json").write_text('{"arm": "dpo"}')
    with pytest.raises(OutputError, match="would lose what it holds"):
        rehearse(frame(20), "model")
    assert rehearse(frame(20))[0] == rehearse(frame(30))[0]


def test_front_matter_has_what_the_hub_and_datasets_read(rehearse):
    _, _, front = rehearse(frame(60), license="cc-by-4.0", pretty_name="Ein Datensatz — 数据", language=["de", "zh"])
    assert (
        front["license"] == "cc-by-4.0" and front["size_categories"] == ["n<1K"] and front["language"] == ["de", "zh"]
    )
    assert front["pretty_name"] == "Ein Datensatz — 数据" and "not-for-all-audiences" in front["tags"]
    balanced = next(info for info in front["dataset_info"] if info["config_name"] == "balanced")
    counts = {split["name"]: split["num_examples"] for split in balanced["splits"]}
    assert counts == {"train": frame(60)["balanced"].sum(), "test": frame(60).filter(split="heldout").height}


@pytest.mark.parametrize(
    ("given", "sources", "expected"),
    [
        (None, ["sample"], "apache-2.0"),
        (None, ["PKU-Alignment/PKU-SafeRLHF"], "cc-by-nc-4.0"),
        (None, ["pku-alignment/pku-saferlhf"], "cc-by-nc-4.0"),
        ("MIT", ["pairs.jsonl"], "mit"),
        ("cc-by-nc-sa-4.0", ["PKU-Alignment/PKU-SafeRLHF"], "cc-by-nc-sa-4.0"),
        ("cc-by-nc-4.0", ["PKU-Alignment/PKU-SafeRLHF", "Anthropic/hh-rlhf"], "cc-by-nc-4.0"),
        (None, ["me/shared-alike"], "cc-by-sa-4.0"),
    ],
)
def test_a_licence_is_the_sources_or_one_that_keeps_its_terms(given, sources, expected):
    stated = {"me/shared-alike": "cc-by-sa-4.0"}
    assert licences.decide(given, sources, lambda source: stated.get(source)).name == expected


BINDING = ("odbl", "gpl-3.0", "agpl-3.0", "lgpl-3.0", "apple-amlr", "cdla-sharing-1.0", "gfdl")
"""Licences whose terms bind what is made of the data; none may go out as MIT."""


@pytest.mark.parametrize("name", BINDING)
def test_what_must_be_shared_alike_goes_out_under_its_own_licence(name):
    assert licences.decide(name, ["me/pairs"], lambda _: name).name == name
    assert licences.decide(None, ["me/pairs"], lambda _: name).name == name


def test_a_licence_nearly_right_is_suggested():
    with pytest.raises(UsageError) as caught:
        licences.decide("apache2", ["sample"], lambda _: None)
    assert "apache-2.0" in caught.value.details["expected"]


@pytest.mark.parametrize(
    ("given", "sources", "says"),
    [
        (None, ["pairs.jsonl"], "the licence of the source is not known"),
        (None, ["me/other"], "the licence of the source is not known"),
        (None, ["sample", "Anthropic/hh-rlhf"], "the sources have different licences"),
        ("mit", ["PKU-Alignment/PKU-SafeRLHF"], "forbids commercial use"),
        ("mit", ["sample", "PKU-Alignment/PKU-SafeRLHF"], "forbids commercial use"),
        ("other", ["PKU-Alignment/PKU-SafeRLHF"], "forbids commercial use"),
        ("mit", ["me/shared-alike"], "shared alike"),
        ("mit", ["me/unchanged"], "forbids changed copies"),
        ("cc-by-nc-nd-4.0", ["pairs.jsonl"], "forbids changed copies"),
        ("M I T", ["sample"], "not a licence's identifier"),
        ("unknown", ["sample"], "not a licence's identifier"),
        ("foo", ["sample"], "not a licence's identifier"),
        *(("mit", [f"me/{name}"], "shared alike|forbids commercial") for name in BINDING),
        ("cc-by-nc-4.0", ["me/apple-amlr"], "shared alike"),
        ("gpl-3.0", ["me/agpl-3.0"], "shared alike"),
    ],
)
def test_what_a_licence_forbids(given, sources, says):
    stated = {"me/shared-alike": "cc-by-sa-4.0", "me/unchanged": "cc-by-nd-4.0", "me/other": "other"}
    stated |= {f"me/{name}": name for name in BINDING}
    with pytest.raises(UsageError, match=says):
        licences.decide(given, sources, lambda source: stated.get(source))


def test_a_known_source_or_a_file_asks_nobody():
    assert licences.decide("mit", ["a file.jsonl", "sample", "Anthropic/hh-rlhf"], nobody).name == "mit"


def test_the_licence_of_a_source_on_the_hub_is_asked_and_a_non_commercial_one_is_said(hub, publish, weights, pairs):
    hub.make("them/pairs", {"README.md": b"---\nlicense: cc-by-nc-4.0\n---\n"}, private=False)
    files.write_parquet(pairs.with_columns(source=pl.lit("them/pairs")), weights, {})
    assert "forbids commercial use" in str(publish("--license", "mit").exception)
    assert publish().exception is None
    card = hub.files("me/data")["README.md"].decode()
    assert "license: cc-by-nc-4.0" in card and "**Non-commercial use only.**" in card
    del hub.repos["dataset", "them/pairs"]
    assert "is not known" in str(publish().exception)


FRONT = {"license": "mit", "configs": [{"config_name": "default"}], "tags": ["a", "b"], "pretty_name": "Ours"}


@pytest.mark.parametrize(
    ("existing", "head", "text"),
    [
        ("", "", ""),
        ("# Words\n", "", "# Words\n"),
        ("---\n---\n# Words\n", "", "# Words\n"),
        ("---\nlicense: gpl # why\n# about us\nowner: [us]\n---\nWords\n", "# about us\nowner: [us]\n", "Words\n"),
        ('---\n"license": gpl\npretty_name: Theirs\n---\nWords\n', "pretty_name: Theirs\n", "Words\n"),
        ("---\r\nlicense: gpl\r\nx: 1\r\n---\r\nWords\r\n", "x: 1", "Words"),
        (
            "---\nconfigs:\n- config_name: theirs\n\n# end\nz: ä\n---\n---\nWords\n---\n",
            "\n# end\nz: ä\n",
            "---\nWords\n---\n",
        ),
    ],
)
def test_an_owners_card_keeps_its_words_and_keys_and_a_second_merge_changes_nothing(existing, head, text):
    once = merge.merge(existing, FRONT, "Body one", "card")
    front, after = merge._FRONT.match(once)[1], once[merge._FRONT.match(once).end() :]
    value = yaml.safe_load(front)
    assert (
        value["license"] == "mit" and value["tags"] == ["a", "b"] and value["configs"][0] == {"config_name": "default"}
    )
    assert head in front and text in after and after.index(merge.BEGIN) > after.index(text)
    assert merge.merge(once, FRONT, "Body one", "card") == once
    twice = merge.merge(once + "More words.\n", FRONT, "Body two", "card")
    assert "Body one" not in twice and "Body two" in twice and twice.endswith("More words.\n") and text in twice
    named = yaml.safe_load(
        merge._FRONT.match(merge.merge(once, FRONT | {"pretty_name": "N"}, "", "", frozenset({"pretty_name"})))[1]
    )
    assert named["pretty_name"] == "N"


@pytest.mark.parametrize(
    "broken", [merge.BEGIN, merge.END, f"{merge.END} {merge.BEGIN}", f"{merge.BEGIN * 2}{merge.END}"]
)
def test_torn_markers_and_front_matter_are_not_guessed_at(broken):
    with pytest.raises(OutputError, match="markers"):
        merge.merge(f"Words {broken}", FRONT, "Body", "card")
    with pytest.raises(OutputError, match="no mapping"):
        merge.merge("---\n- a\n---\n", FRONT, "Body", "card")


def test_a_second_default_configuration_is_refused_for_nothing_could_be_loaded():
    """`datasets` refuses every configuration of a repository that has two default ones."""
    card = "---\nconfigs:\n- config_name: theirs\n  data_files: x.csv\n  default: true\n---\nWords\n"
    with pytest.raises(OutputError, match="so is ours") as error:
        merge.merge(card, FRONT, "Body", "card")
    assert "theirs" in error.value.details["found"]
    assert merge.merge(card.replace("  default: true\n", ""), FRONT, "Body", "card")


def test_lineage_is_of_the_stages_that_made_the_file(tmp_path):
    """dvc.lock is written as DVC writes it; what comes after the file does not count."""
    data = tmp_path / "data.parquet"
    data.write_bytes(b"rows")

    def lock(alpha, later):
        out = {"path": "data.parquet", "hash": "md5", "md5": hashlib.md5(b"rows").hexdigest()}
        weigh = {
            "cmd": "w",
            "deps": [{"path": "raw"}],
            "params": {"params.yaml": {"weigh": {"alpha": alpha}}},
            "outs": [out],
        }
        stages = {"prepare": {"cmd": "p", "outs": [{"path": "raw", "md5": "0"}]}, "weigh": weigh}
        stages |= {"publish": {"cmd": later, "deps": [{"path": "data.parquet"}], "outs": [{"path": "receipt"}]}}
        (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
        (tmp_path / "params.yaml").write_text("weigh: {alpha: 1.5}\n")
        return lineage(data, tmp_path)

    first = lock(1.5, "one")
    assert first["stages"] == ["prepare", "weigh"] and lock(1.5, "two") == first
    assert first["params.yaml"] == files.file_digest(tmp_path / "params.yaml")
    lock(1.5, "one")
    for written in ("15e-1", "1.50", "0.15e1"):  # numbers all, to DVC
        (tmp_path / "params.yaml").write_text(f"weigh:\n  alpha: {written}\n")
        assert lineage(data, tmp_path)["params.yaml"] == files.file_digest(tmp_path / "params.yaml")
    for written in ("16e-1", "many", "[1.5]", "01:30"):
        (tmp_path / "params.yaml").write_text(f"weigh:\n  alpha: {written}\n")
        assert "params.yaml" not in lineage(data, tmp_path)
    other = lock(2.0, "one")
    assert other["dvc.lock"] != first["dvc.lock"] and "params.yaml" not in other
    data.write_bytes(b"other rows")
    assert lock(1.5, "one") == {}
    assert lineage(data, tmp_path / "nowhere") == {}
    made = {"outs": [{"path": "data.parquet", "md5": hashlib.md5(b"other rows").hexdigest()}]}
    for odd in ({"deps": 5}, {"deps": [{}]}, {"deps": ["raw"]}, {"outs": None}, {"outs": [[]]}):
        (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"stages": {"weigh": made | odd}}))
        assert lineage(data, tmp_path) == {}
    assert json.dumps(first)


def test_the_columns_documented_are_the_schemas():
    text = (Path(__file__).resolve().parents[2] / "docs" / "columns.md").read_text()
    for stage in (*schema.STAGES.values(), schema.OPTIONAL, *([name] for name in schema.GAPS)):
        assert schema.table(stage) in text
    assert set(schema.MEANINGS) == set(schema.columns(*schema.STAGES)) | {*schema.OPTIONAL, *schema.GAPS}


def test_provenance_cannot_write_into_the_card():
    from curate.hub.card import body
    from curate.pairs.manifest import Manifest

    hostile = "x`\n```\n# Owned <script>alert(1)</script> | y; rm -rf ~"
    digest = "0" * 64
    made = {"stage": "score", "version": hostile, "engine": hostile, "model": {"name": hostile, "commit": hostile}}
    made |= {"params": {"dtype": hostile, "null_prompt": hostile}}
    manifest = Manifest(
        version="1", license="mit", sources={hostile: hostile}, configs={"default": {}}, files={}, weights=digest,
        pipeline={}, provenance=made, prepare={
            "read": 1, "kept": 1, "rejected": 0, "marks": {hostile: 1},
            "rules": {hostile: {"count": 1, "meaning": hostile}},
        },
    )  # fmt: skip
    text = body("me/data", hostile, manifest, ["pair_id"], None)
    fences = [line for line in text.splitlines() if line.startswith("```")]
    outside = text.split("````")[0] + text.split("````")[-1]
    assert "\n# Owned" not in text and "<script>" not in outside and "--model MODEL" in text
    assert len(fences) % 2 == 0


@pytest.mark.parametrize("odd", ["a: [b", "made: 2024-13-45", "size: 0x_", "a: " + "[" * 5000])
def test_a_card_whose_yaml_cannot_be_read_is_one_message(odd):
    from curate.hub.merge import merge

    with pytest.raises(OutputError, match="cannot be read"):
        merge(f"---\n{odd}\n---\ntext", {"license": "mit"}, "body", "hub:me/data")
