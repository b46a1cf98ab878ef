"""A name becomes a folder, a commit and a digest, or one clear message."""

import json
import shutil

import pytest
from tiny import save_model

from curate.base.errors import InputError
from curate.models.rendering import load_tokenizer
from curate.models.resolve import resolve, write_reference
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


def test_a_scratch_reference_lies_in_its_own_folder(tmp_path):
    save_model(tmp_path / "a")
    write_reference(tmp_path / "a", ModelParams(name="scratch"))
    (tmp_path / "a").rename(tmp_path / "moved")
    assert resolve(tmp_path / "moved").path == tmp_path / "moved"


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
