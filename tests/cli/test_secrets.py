"""Secrets planted in every address and key come out nowhere: not in errors, not in what is said, not in a file."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import artefacts
import pytest
import yaml
from tiny import many, save_model
from typer.testing import CliRunner

from curate import cli
from curate.base import files
from curate.project import params

SECRET = "pl4ntedS3cret"
KEYS = ("HF_TOKEN", "CURATE_SERVER_KEY", "OPENAI_API_KEY")


class _Refusing(BaseHTTPRequestHandler):
    """A server that wants another key, and repeats what it was given."""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        said = f'{{"error": {{"message": "no: {self.headers.get("authorization")}"}}}}'.encode()
        self.send_response(400 if "chat" in self.path else 401)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST = _answer

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def address():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://me:{SECRET}@127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


def test_no_output_of_a_run_holds_a_secret(address, tmp_path, monkeypatch):
    for number, name in enumerate(KEYS):
        monkeypatch.setenv(name, f"{SECRET}{number}")
    monkeypatch.setenv("CURATE_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    save_model(work / "model")
    files.write_parquet(many(6), work / "pairs.parquet", {"params": {"score": {"server_urls": [address]}}})
    files.write_parquet(artefacts.frame(60), work / "weights.parquet", {"stage": "weigh", "params": {"url": address}})
    wanted = {"judge": "rubric", "judge_model": "m", "judge_url": address, "attacker_url": address}
    whole = params.check(params.Params, {"evaluate": wanted, "score": {"engine": "server", "server_urls": [address]}})
    (tmp_path / "params.yaml").write_text(params.to_yaml(whole))
    broken = yaml.safe_load(params.to_yaml(whole))
    broken["evaluate"]["judge"] = "strongreject"
    (tmp_path / "broken.yaml").write_text(yaml.safe_dump(broken))
    given = f"--model {work}/model --out {work}"
    commands = {
        f"score {work}/pairs.parquet --engine server --server-urls {address} {given}/s.parquet": 1,
        f"evaluate {work}/model --suite heldout={work}/weights.parquet --limit 1 --max-tokens 2 --engine transformers "
        f"--judge rubric --judge-model m --judge-url {address} --out {work}/evaluation": None,
        f"agreement {work}/pairs.parquet --judge rubric --judge-model m --judge-url {address}": 1,
        f"evaluate {work}/model --suite xstest=x --judge-url {address} --out {work}/e": 2,
        f"report --weights {work}/weights.parquet --params params.yaml --out {work}/report": 0,
        f"report --weights {work}/weights.parquet --params broken.yaml --out {work}/other": 2,
        f"publish {work}/weights.parquet --repo me/data --license mit --dry-run --out {work}/folder": 0,
    }
    for command, code in commands.items():
        done = CliRunner().invoke(cli.app, command.split())
        error = done.exception
        said = done.output + str(error or "")
        assert SECRET not in said, command.split()[0]
        assert error is None or isinstance(error, cli_errors()), (command, error)
        found = getattr(error, "exit_code", 0) if not isinstance(error, SystemExit) else error.code
        assert code in (None, found), (command, said)
    kept = [path for top in (work, tmp_path / "state") for path in top.rglob("*") if path.is_file()]
    assert len(kept) > 20 and not [str(path) for path in kept if SECRET.encode() in path.read_bytes()]
    assert (
        "//me:" not in (work / "report" / "index.html").read_text()
        and "***@127.0.0.1" in (work / "report" / "index.html").read_text()
    )


def cli_errors():
    from curate.base.errors import CurateError

    return (CurateError, SystemExit)
