"""A name becomes a folder, a commit and a digest, or one clear message."""

import json
import shutil

import pytest
from tiny import save_model

from curate.base.errors import InputError, UsageError
from curate.models.load import load_model
from curate.models.rendering import load_tokenizer
from curate.models.resolve import resolve, resolve_given, write_reference
from curate.project.params import ModelParams


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


def test_a_folder(folder):
    model = resolve(str(folder))
    assert model.path == folder and model.context == 256 and model.commit is None
    assert resolve(folder).digest == model.digest


def test_the_digest_sees_weights_and_config(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert resolve(copy).digest == resolve(folder).digest
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"rope_theta": 5}))
    assert resolve(copy).digest != resolve(folder).digest


def test_a_recorded_model_is_found_and_a_changed_one_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    written = write_reference(tmp_path / "reference", ModelParams(name=str(tmp_path / "model")))
    assert resolve(tmp_path / "reference").digest == written.digest
    with (tmp_path / "model" / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match="has changed since"):
        resolve(tmp_path / "reference")


def test_a_model_replaced_before_it_is_loaded_is_refused(folder, tmp_path):
    """Its numbers would be kept under the digest of the one before."""
    shutil.copytree(folder, tmp_path / "model")
    model = resolve(tmp_path / "model")
    (tmp_path / "model" / "config.json").touch()  # the same bytes
    load_model(model, "float32")
    (tmp_path / "model").rename(tmp_path / "before")
    save_model(tmp_path / "model", seed=1)
    with pytest.raises(InputError, match="changed between being looked at and being loaded"):
        load_model(model, "float32")


@pytest.mark.parametrize("file", ["chat_template.jinja", "tokenizer_config.json", "generation_config.json"])
def test_another_tokenizer_is_another_record_and_the_same_digest(folder, tmp_path, file):
    """What scores are kept by stays; what later stages depend on does not."""
    shutil.copytree(folder, tmp_path / "model")
    params = ModelParams(name=str(tmp_path / "model"))
    before = write_reference(tmp_path / "reference", params)
    record = (tmp_path / "reference/reference.json").read_text()
    assert resolve(tmp_path / "reference").record() == before.record()
    changed = tmp_path / "model" / file
    changed.write_text((changed.read_text() if changed.is_file() else "") + "\n")
    assert resolve(tmp_path / "model").digest == before.digest
    with pytest.raises(InputError, match="tokenizer or its chat template has changed"):
        resolve(tmp_path / "reference")
    old = json.loads(record)
    (tmp_path / "reference/reference.json").write_text(json.dumps({k: v for k, v in old.items() if k != "tokenizer"}))
    assert resolve(tmp_path / "reference").digest == before.digest  # a record of before
    write_reference(tmp_path / "reference", params)
    new = json.loads((tmp_path / "reference/reference.json").read_text())
    assert {name for name in new if new[name] != old[name]} == {"tokenizer"}


def test_a_project_and_its_model_move_together(folder, tmp_path, monkeypatch):
    """The record is written in a folder that gets its name later; read from any folder, after a move, too."""
    shutil.copytree(folder, tmp_path / "here" / "model")
    (tmp_path / "here" / "project" / "data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "project")
    write_reference("made", ModelParams(name="../model"), "data/reference")
    (tmp_path / "here" / "project" / "made").rename("data/reference")
    before = resolve("data/reference").record()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").rename(tmp_path / "there")
    after = resolve("there/project/data/reference")
    assert after.record() == before and after.path == tmp_path / "there" / "model"


def test_a_scratch_reference_lies_in_its_own_folder(tmp_path):
    save_model(tmp_path / "a")
    write_reference(tmp_path / "a", ModelParams(name="scratch"))
    (tmp_path / "a").rename(tmp_path / "moved")
    assert resolve(tmp_path / "moved").path == tmp_path / "moved"
    assert resolve(tmp_path / "moved").record()["name"] == "scratch"
    assert resolve_given(str(tmp_path / "moved")).record()["name"] == "moved"


@pytest.mark.parametrize("said", [True, "true", "false", 1, None])
def test_trust_comes_from_the_caller_and_from_no_file(folder, tmp_path, said):
    """A model's own reference.json cannot have its Python code run."""
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / "modeling_own.py").write_text("raise SystemExit('ran')")
    written = write_reference(tmp_path / "model", ModelParams(name="scratch"))
    record = json.loads((tmp_path / "model" / "reference.json").read_text())
    (tmp_path / "model" / "reference.json").write_text(json.dumps(record | {"trust_remote_code": said}))
    assert resolve(tmp_path / "model") == written and not written.trust_remote_code
    (tmp_path / "elsewhere").mkdir()
    elsewhere = json.dumps(record | {"trust_remote_code": said, "path": str(tmp_path / "model")})
    (tmp_path / "elsewhere" / "reference.json").write_text(elsewhere)
    assert not resolve(tmp_path / "elsewhere").trust_remote_code


def test_a_model_recorded_with_its_code_needs_the_flag_again(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / "modeling_own.py").write_text("")
    params = ModelParams(name=str(tmp_path / "model"), trust_remote_code=True)
    written = write_reference(tmp_path / "reference", params)
    with pytest.raises(InputError, match="have not allowed"):
        resolve(tmp_path / "reference")
    allowed = resolve(tmp_path / "reference", trust_remote_code=True)
    assert allowed.trust_remote_code and allowed.digest == written.digest


def test_a_model_s_record_of_another_model_is_not_followed(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    write_reference(tmp_path / "other", ModelParams(name=str(folder)))
    shutil.copy(tmp_path / "other" / "reference.json", tmp_path / "model")
    with pytest.raises(InputError, match="a record that names another"):
        resolve(tmp_path / "model")


@pytest.mark.parametrize("record", ["null", "[1]", '{"name": 1}', '{"name": "a", "digest": "b", "path": null}', "{"])
def test_a_record_that_is_none(tmp_path, record):
    (tmp_path / "reference.json").write_text(record)
    with pytest.raises(InputError) as caught:
        resolve(tmp_path)
    assert caught.value.details["file"].endswith("reference.json")


def test_a_link_named_like_a_digest_is_read(folder, tmp_path):
    """Only the Hub's own cache is believed: else a folder could claim another model's scores."""
    shutil.copytree(folder, tmp_path / "model")
    honest = resolve(tmp_path / "model").digest
    (tmp_path / ("a" * 64)).write_bytes((tmp_path / "model" / "model.safetensors").read_bytes())
    (tmp_path / "model" / "model.safetensors").unlink()
    (tmp_path / "model" / "model.safetensors").symlink_to(tmp_path / ("a" * 64))
    assert resolve(tmp_path / "model").digest == honest


@pytest.mark.parametrize("config", ["null", "[1]", '{"max_position_embeddings": "8"}', '{"text_config": 3}'])
def test_a_config_that_is_none(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        resolve(tmp_path)
    assert caught.value.details["file"].endswith("config.json")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no/such/folder", "no such model"),
        ("./missing", "no such model"),
        ("nothing", "no such model"),
    ],
)
def test_a_name_that_means_nothing(name, says):
    with pytest.raises(InputError, match=says):
        resolve(name)


def test_folders_that_hold_no_model(tmp_path):
    with pytest.raises(InputError, match="no model here"):
        resolve(tmp_path)
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 8}')
    (tmp_path / "pytorch_model.bin").write_text("")
    with pytest.raises(InputError, match="no safetensors weights") as caught:
        resolve(tmp_path)
    assert "pytorch_model.bin" in caught.value.details["found"]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a folder, not a file"):
        resolve(tmp_path / "file")


@pytest.mark.parametrize("target", ["gone", "model.safetensors"])
def test_weights_that_are_a_link_to_nothing(folder, tmp_path, target):
    shutil.copytree(folder, tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    weights.unlink()
    weights.symlink_to(target)
    with pytest.raises(InputError, match="no such file") as caught:
        resolve(tmp_path / "m")
    assert caught.value.details["file"] == str(weights) and "cp -rL" in caught.value.details["remedy"]


def test_a_folder_has_no_revision(folder):
    with pytest.raises(UsageError, match="a folder has no revision"):
        resolve(folder, "main")


def test_no_chat_template(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "m")
    (tmp_path / "m" / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="no chat template"):
        load_tokenizer(resolve(tmp_path / "m"))


def test_a_hub_that_cannot_be_reached_says_so(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="cannot be reached") as caught:
        resolve("someone/some-model")
    assert "local folder" in caught.value.details["remedy"]


def test_the_record_tells_a_hub_id_or_a_folders_last_part(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, "runs/bdpo/model")
    for name in ("runs/bdpo/model", "./runs/bdpo/model/", str(tmp_path / "runs/bdpo/model"), "runs/../runs/bdpo/model"):
        assert resolve(name).record()["name"] == "model"
    hub = resolve("runs/bdpo/model")._replace(name="owner/name", commit="0" * 40)
    assert hub.record()["name"] == "owner/name"
    monkeypatch.chdir(tmp_path / "runs/bdpo/model")
    assert resolve(".").record()["name"] == "model"
