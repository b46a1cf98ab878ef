"""Pushing, against a real server: what arrives, what a repeat sends, and what every failure leaves and says."""

import hashlib
import json

import pytest
from hub_server import Fault
from huggingface_hub import close_session, constants, errors
from huggingface_hub.utils import validate_repo_id

from curate.base import files
from curate.base.errors import InputError, OutputError, UsageError
from curate.hub.load import load
from curate.project import params

pytestmark = pytest.mark.usefixtures("no_figure")
LFS_UPLOAD = r"^/lfs/[0-9a-f]{64}$"
COMMIT = r"/commit/main$"


def messages(hub, repo="me/data"):
    return [message for _, message, _ in hub.repo(repo).commits]


def test_what_arrives_is_the_folder_and_the_receipt_says_so(hub, publish, tmp_path):
    done = publish("--out", "folder")
    assert done.exception is None and "the figure is left out" in done.output
    repo, there = hub.repo("me/data"), hub.files("me/data")
    assert repo.private and len(repo.commits) == 2
    folder = tmp_path / "folder"
    local = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert there == local | {".gitattributes": there[".gitattributes"]}
    receipt = json.loads((tmp_path / "publish.json").read_text())
    assert receipt["repository"] == "me/data" and receipt["commit"] == repo.commits[-1][0] and receipt["committed"]
    assert receipt["url"] == f"{hub.url}/datasets/me/data/tree/{receipt['commit']}" and receipt["private"]
    assert {name: file["sha256"] for name, file in receipt["files"].items()} == {
        name: hashlib.sha256(content).hexdigest() for name, content in local.items()
    }
    manifest = json.loads(there["curate.json"])
    assert set(manifest["files"]) == set(local) - {"README.md", "curate.json"}
    assert b"/home/somebody" not in b"".join(there[name] for name in ("README.md", "curate.json"))
    assert manifest["provenance"]["from"]["model"]["name"] == "tiny"


def test_the_same_again_is_no_commit_and_other_weights_one_that_removes_what_is_gone(hub, publish, weights, pairs):
    publish()
    asked = len(hub.asked)
    done = publish("--receipt", "again.json")
    assert "nothing had changed" in done.output and len(hub.repo("me/data").commits) == 2
    assert not {method for method, *_ in hub.asked[asked:]} & {"PUT", "POST"}
    assert not json.loads((weights.parent / "again.json").read_text())["committed"]

    files.write_parquet(pairs.drop("balanced", "imbalanced", "random"), weights, {})
    publish()
    assert len(hub.repo("me/data").commits) == 3
    assert not [name for name in hub.files("me/data") if "balanced" in name]
    assert "data/train-00000-of-00001.parquet" in hub.files("me/data")


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault("GET", r"^/api/datasets/me/data$", 401), "does not accept the token"),
        (Fault("POST", r"/repos/create$", 403), "may not make a dataset there"),
        (Fault("POST", r"/repos/create$", 404), "no such repository, user or organisation"),
        (Fault("POST", r"/preupload/", 403), "may not write there"),
        (Fault("POST", r"/lfs/objects/batch$", 500, 9), "the Hub fails"),
        (Fault("PUT", LFS_UPLOAD, 403, 9), "may not write there"),
        (Fault("PUT", LFS_UPLOAD, 503, 9), "the Hub fails"),
        (Fault("PUT", LFS_UPLOAD, cut=True, times=9), "the connection to the Hub failed"),
        (Fault("POST", COMMIT, 409), "somebody else committed"),
        (Fault("POST", COMMIT, 412), "somebody else committed"),
        (Fault("POST", COMMIT, 429, headers={"Retry-After": "3600"}), "rate limit"),
        (Fault("POST", COMMIT, 500), "the Hub fails"),
        (Fault("POST", COMMIT, 413), "the Hub refused the request"),
        (Fault("POST", COMMIT, cut=True), "the connection to the Hub failed"),
        (Fault("GET", r"/tree/", 502), "the Hub fails"),
    ],
    ids=lambda value: f"{value.method}-{value.status if not value.cut else 'cut'}" if isinstance(value, Fault) else "",
)
def test_a_failure_says_what_it_is_and_leaves_no_commit_and_the_repeat_sends_what_is_missing(
    hub, publish, tmp_path, fault, says
):
    hub.faults.append(fault)
    done = publish()
    assert isinstance(done.exception, OutputError) and says in str(done.exception), done.exception
    assert done.exception.details["file"] == "hub:me/data" and "found" in done.exception.details
    assert not (tmp_path / "publish.json").exists()
    if ("dataset", "me/data") in hub.repos:
        assert messages(hub) == ["initial commit"] and list(hub.files("me/data")) == [".gitattributes"]

    hub.faults.clear()
    assert publish().exception is None
    assert len(messages(hub)) == 2 and len(hub.received) == 4
    assert set(hub.received.values()) == {1}, "a file was sent twice"


def test_a_receipt_that_cannot_be_written_is_found_before_anything_is_sent(hub, publish):
    done = publish("--receipt", "/proc/none/publish.json")
    assert isinstance(done.exception, OutputError) and "cannot write the output" in str(done.exception)
    assert not hub.repos


def test_a_connection_that_fails_in_the_storage_s_own_library_says_what_to_do(hub, publish, monkeypatch):
    """hf_xet, by which files go to the Hub; this one has no such storage."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    done = publish()
    assert isinstance(done.exception, OutputError) and "the connection to the Hub failed" in str(done.exception)
    assert "run the same command again" in done.exception.details["remedy"] and messages(hub) == ["initial commit"]


def test_an_upload_that_breaks_off_once_goes_on_by_itself(hub, publish):
    hub.faults.append(Fault("PUT", LFS_UPLOAD, cut=True))
    assert publish(patience="5").exception is None
    assert len(messages(hub)) == 2 and set(hub.received.values()) == {1}


def test_a_busy_hub_is_waited_for_as_it_asks_and_no_longer_than_we_are_told(hub, publish):
    hub.faults.append(Fault("POST", COMMIT, 429, headers={"Retry-After": "1"}))
    hub.faults.append(Fault("GET", r"^/api/datasets/me/data$", 429, headers={"RateLimit": '"api";r=0;t=0'}))
    assert publish(patience="5").exception is None
    assert [status for method, path, status in hub.asked if path.endswith("/commit/main")] == [429, 200]

    hub.faults.append(Fault("GET", r"^/api/datasets/me/data$", 429, times=9, headers={"Retry-After": "60"}))
    error = publish(patience="5").exception
    assert "asks to wait 60 s" in error.details["found"] and "publish.patience" in error.details["remedy"]


def test_a_hub_that_asks_for_no_rest_is_not_overrun(hub, publish):
    hub.faults.append(Fault("GET", r"^/api/datasets/me/data$", 429, times=99, headers={"Retry-After": "0"}))
    assert "rate limit" in str(publish(patience="1.5").exception) and len(hub.asked) == 2


def test_a_commit_whose_answer_is_lost_is_found_to_have_landed(hub, publish, tmp_path):
    hub.faults.append(Fault("POST", COMMIT, applied=True))
    assert publish().exception is None
    receipt = json.loads((tmp_path / "publish.json").read_text())
    assert len(messages(hub)) == 2 and receipt["commit"] == hub.repo("me/data").commits[-1][0]


def test_a_commit_of_somebody_else_in_the_middle_is_not_overwritten(hub, publish, monkeypatch):
    publish()
    # What another person does between our look at the repository and our commit.
    handler = hub.RequestHandlerClass
    preupload = handler.preupload

    def meddled(self, **where):
        monkeypatch.setattr(handler, "preupload", preupload)
        hub.put("me/data", {"README.md": b"mine now"})
        return preupload(self, **where)

    monkeypatch.setattr(handler, "preupload", meddled)
    done = publish("--pretty-name", "Another")
    assert "somebody else committed" in str(done.exception)
    assert hub.files("me/data")["README.md"] == b"mine now" and len(messages(hub)) == 3
    assert publish("--pretty-name", "Another").exception is None
    assert hub.files("me/data")["README.md"].startswith(b"---\n") and b"mine now" in hub.files("me/data")["README.md"]


def test_a_public_repository_gets_nothing_unless_told_and_none_changes_its_visibility(hub, publish):
    hub.make("me/data", private=False)
    assert "the repository is public" in str(publish().exception) and len(messages(hub)) == 1
    assert publish("--public").exception is None and not hub.repo("me/data").private
    hub.make("me/hidden", private=True)
    done = publish("--public", repo="me/hidden")
    assert "is private and stays so" in done.output and hub.repo("me/hidden").private
    assert publish("--public", repo="team/new").exception is None and not hub.repo("team/new").private


def test_files_of_somebody_else_are_not_lost(hub, publish):
    hub.make("me/data", {"data/train-00000-of-00001.parquet": b"theirs", "notes.txt": b"kept"})
    error = publish().exception
    assert "stand where ours go" in str(error) and error.details["field"] == "data/train-00000-of-00001.parquet"
    hub.make("me/data", {"notes.txt": b"kept"})
    assert publish().exception is None and hub.files("me/data")["notes.txt"] == b"kept"


def test_the_owners_card_is_kept(hub, publish):
    card = "---\n# a remark\nannotations_creators: [us]\ntags: [mine]\nconfigs:\n"
    card += "- config_name: other\n  data_files: x.csv\n"
    hub.make("me/data", {"README.md": f"{card}---\n# Ours\n\nOur own words.\n".encode()})
    publish()
    text = hub.files("me/data")["README.md"].decode()
    assert text.startswith("---\n# a remark\nannotations_creators: [us]\n") and "# Ours\n\nOur own words.\n" in text
    edited = text.replace("Our own words.", "Other words.") + "After it.\n"
    hub.put("me/data", {"README.md": edited.encode()})
    publish("--license", "mit")
    again = hub.files("me/data")["README.md"].decode()
    assert "Other words." in again and again.endswith("After it.\n") and "license: mit\n" in again
    assert again.count("## Citation") == 1 and "config_name: other" in again and "- mine" in again


@pytest.mark.parametrize(
    ("token", "repo", "says"),
    [
        (None, "me/data", "there is none"),
        ("hf_unknown", "me/data", "does not accept the token"),
        ("hf_reader", "me/data", "may not make a dataset there"),
        ("hf_writer", "nobody/data", "may not make a dataset there"),
        ("hf_écrit", "me/data", "the token holds characters that no token has"),
    ],
)
def test_who_may_not(hub, publish, monkeypatch, token, repo, says):
    monkeypatch.delenv("HF_TOKEN") if token is None else monkeypatch.setenv("HF_TOKEN", token)
    done = publish(repo=repo)
    assert says in str(done.exception) and (token is None or token not in str(done.exception)), done.exception
    assert not hub.repos and "remedy" in done.exception.details
    if says.startswith("may not make"):
        assert done.exception.details["found"].startswith(
            "a token of " + ("guest" if token == "hf_reader" else "me, in team")
        )


@pytest.mark.parametrize("name", ["me/da--ta", "me/da..ta", "me/data.git", "me/-data", "me-/data", "mé/data", "me"])
def test_a_name_that_the_client_refuses_is_refused_at_once_in_a_rehearsal_too(hub, publish, name):
    for words in ([], ["--dry-run"]):
        error = publish(*words, repo=name).exception
        assert isinstance(error, UsageError) and "owner/name" in error.details["expected"]
    with pytest.raises(UsageError) as caught:
        params.check(params.Params, {"publish": {"repos": ["me/data", name]}})
    assert caught.value.details["field"] == "publish.repos.1" and not hub.asked


def test_a_name_that_is_taken_is_one_that_the_client_takes():
    parts = [
        "a",
        "A1",
        "a-b",
        "a.b",
        "a_",
        "_a",
        "-a",
        "a-",
        ".a",
        "a.",
        "a--b",
        "a..b",
        "a-.b",
        "a.git",
        "a.gitx",
        "é",
    ]
    for name in [f"{owner}/{part}" for owner in ["me", *parts] for part in [*parts, "x" * 96, "x" * 97]]:
        if params.is_repository(name):
            validate_repo_id(name)
        elif name.partition("/")[0] == "me":
            with pytest.raises(errors.HFValidationError):
                validate_repo_id(name)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(("proxy", "says"), [("socks5://localhost:9", "SOCKS"), ("http://h:port", "Invalid port")])
def test_a_proxy_that_cannot_be_used_is_one_message(publish, monkeypatch, proxy, says):
    publish()
    monkeypatch.setenv("ALL_PROXY", proxy)
    close_session()
    try:
        error = publish("--pretty-name", "Another").exception
        assert isinstance(error, OutputError) and says in error.details["found"] and "proxy" in error.details["remedy"]
        with pytest.raises(InputError, match=says):
            load("hub:me/data")
    finally:
        close_session()


def test_a_name_that_something_else_has(hub, publish):
    hub.make("me/data", kind="model")
    assert "the name is taken" in str(publish().exception)


def test_a_manifest_that_is_not_ours_and_a_card_that_cannot_be_read_stop_it(hub, publish):
    hub.make("me/data", {"curate.json": b'{"layout": 2}'})
    assert isinstance(publish().exception, InputError)
    hub.make("me/old", {"README.md": "caf\u00e9".encode("latin-1")})
    error = publish(repo="me/old").exception
    assert "not UTF-8" in str(error) and error.details["field"] == "README.md" and len(messages(hub, "me/old")) == 1
    hub.make("me/data", {"README.md": b"---\nlicense: [mit\n---\n"})
    assert "cannot be read" in str(publish().exception) and len(messages(hub)) == 1


def test_offline_and_metadata_that_the_hub_refuses(hub, publish, monkeypatch):
    assert "not a licence's identifier" in str(publish("--license", "a+b").exception) and not hub.asked
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "switched off" in str(publish().exception)


def test_a_rehearsal_asks_nobody_and_writes_what_a_push_to_a_new_repository_sends(hub, publish, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    done = publish("--dry-run", "--out", "folder")
    assert done.exception is None and not hub.asked and not (tmp_path / "publish.json").exists()
    folder = tmp_path / "folder"
    wanted = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    for name, path in wanted.items():
        assert any(files.file_digest(path) in line and line.endswith(name) for line in done.output.splitlines())
    assert f"{len(wanted)} files" in done.output and "private" in done.output
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    publish()
    assert {name: content for name, content in hub.files("me/data").items() if name != ".gitattributes"} == {
        name: path.read_bytes() for name, path in wanted.items()
    }
