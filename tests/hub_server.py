"""A small Hugging Face Hub on loopback: what huggingface_hub and datasets ask for, over real HTTP, with faults.

It speaks the routes of creating a repository, committing (also LFS), listing and downloading, and keeps every request.
A `Fault` makes the next requests that match it fail.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

SIGNATURE = "X-Amz-Signature=5ignature0fTheUpl0ad"
LFS = (".parquet", ".png")


@dataclass
class File:
    content: bytes
    lfs: bool

    @property
    def oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def entry(self, path: str) -> dict:
        found = {"type": "file", "path": path, "size": len(self.content), "oid": self.oid}
        if self.lfs:
            found["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": 130}
        return found


@dataclass
class Repo:
    private: bool
    commits: list[tuple[str, str, dict[str, File]]] = field(default_factory=list)  # sha, message, files

    def commit(self, message: str, files: dict[str, File]) -> str:
        before = self.commits[-1][0] if self.commits else ""
        sha = hashlib.sha1(f"{before}{len(self.commits)}{message}".encode()).hexdigest()
        self.commits.append((sha, message, files))
        return sha

    def at(self, revision: str) -> tuple[str, dict[str, File]] | None:
        if revision == "main":
            return self.commits[-1][0], self.commits[-1][2]
        return next(((sha, files) for sha, _, files in self.commits if sha == revision), None)


@dataclass
class Fault:
    """The next `times` requests of `method` whose path `path` (a pattern) is in fail."""

    method: str
    path: str
    status: int = 500
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False  # the connection breaks in the middle of the body
    applied: bool = False  # the request is carried out, and its answer lost


class Hub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.tokens = {"hf_writer": ("me", ["team"]), "hf_reader": ("guest", [])}  # token -> user, organisations
        self.repos: dict[tuple[str, str], Repo] = {}  # (kind, id)
        self.blobs: dict[str, bytes] = {}  # LFS, by sha256
        self.faults: list[Fault] = []
        self.asked: list[tuple[str, str, int]] = []  # method, path, status (0: cut)
        self.received: dict[str, int] = {}  # LFS oid -> times it arrived whole
        self.lock = threading.RLock()

    def repo(self, name: str) -> Repo:
        return self.repos["dataset", name]

    def files(self, name: str) -> dict[str, bytes]:
        return {path: file.content for path, file in self.repo(name).commits[-1][2].items()}

    def make(
        self, name: str, files: dict[str, bytes] | None = None, private: bool = True, kind: str = "dataset"
    ) -> None:
        repo = self.repos[kind, name] = Repo(private)
        first = {".gitattributes": b"*.parquet filter=lfs\n"} | (files or {})
        repo.commit("initial commit", {path: File(content, path.endswith(LFS)) for path, content in first.items()})

    def put(self, name: str, files: dict[str, bytes]) -> str:
        """A commit by somebody else."""
        repo = self.repo(name)
        now = {path: File(content, path.endswith(LFS)) for path, content in files.items()}
        return repo.commit("by hand", repo.commits[-1][2] | now)

    def handle_error(self, request, client_address) -> None:
        pass  # connections that break off are meant to


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


class Refused(Exception):
    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


def front(text: str) -> dict:
    found = re.match(r"^---\n(.*?)\n---", text, re.DOTALL)
    try:
        return yaml.safe_load(found[1]) if found else {}
    except yaml.YAMLError:
        return {}


REPO = r"(?P<repo>[^/]+/[^/]+)"
ROUTES = [
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("GET", rf"/api/datasets/{REPO}", "info"),
    ("GET", rf"/api/datasets/{REPO}/revision/(?P<revision>[^/]+)", "info"),
    ("GET", rf"/api/datasets/{REPO}/tree/(?P<revision>[^/]+)(/(?P<path>.*))?", "tree"),
    ("POST", rf"/api/datasets/{REPO}/paths-info/(?P<revision>[^/]+)", "paths_info"),
    ("POST", rf"/api/datasets/{REPO}/preupload/(?P<revision>[^/]+)", "preupload"),
    ("POST", rf"/api/datasets/{REPO}/commit/(?P<revision>[^/]+)", "commit"),
    ("POST", rf"/datasets/{REPO}\.git/info/lfs/objects/batch", "batch"),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", "upload"),
    ("POST", r"/lfs/verify", "verify"),
    ("GET", rf"/datasets/{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    ("HEAD", rf"/datasets/{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Hub

    def log_message(self, format, *args) -> None:
        pass

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def answer(self) -> None:
        address = urlsplit(self.path)
        self.query, path = parse_qs(address.query), unquote(address.path)
        fault = self.fault(path)
        if fault is not None and fault.cut and not fault.applied:
            self.rfile.read(int(self.headers.get("content-length", 0)) // 2)
            self.server.asked.append((self.command, path, 0))
            return self.hang_up()
        length = int(self.headers.get("content-length", 0))
        self.body = self.rfile.read(length) if length else self.chunks()
        if fault is not None and not fault.applied:
            return self.send(fault.status, {"error": "a fault"}, fault.headers, path)
        try:
            for method, pattern, name in ROUTES:
                found = re.fullmatch(pattern, path)
                if found and method == self.command:
                    with self.server.lock:
                        status, value, headers = getattr(self, name)(**found.groupdict())
                    if fault is not None:
                        self.server.asked.append((self.command, path, 0))
                        return self.hang_up()
                    return self.send(status, value, headers, path)
            raise Refused(404, f"no such route: {self.command} {path}")
        except Refused as refused:
            headers = {"X-Error-Message": refused.message}
            if refused.code:
                headers["X-Error-Code"] = refused.code
            return self.send(refused.status, {"error": refused.message}, headers, path)

    def chunks(self) -> bytes:
        """A body that comes in chunks, as a file does."""
        found = b""
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return found

    def fault(self, path: str) -> Fault | None:
        with self.server.lock:
            for fault in self.server.faults:
                if fault.times and fault.method == self.command and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None

    def hang_up(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def send(self, status: int, value, headers: dict[str, str], path: str) -> None:
        self.server.asked.append((self.command, path, status))
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    # Who asks, and what may be seen

    def user(self) -> tuple[str, list[str]] | None:
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        if not token:
            return None
        if token not in self.server.tokens:
            raise Refused(401, "Invalid credentials in Authorization header")
        return self.server.tokens[token]

    def writer(self, owner: str) -> None:
        user = self.user()
        if user is None:
            raise Refused(401, "Invalid username or password.")
        if owner not in (user[0], *user[1]):
            raise Refused(403, f'You don\'t have the rights to write under the namespace "{owner}".')

    def seen(self, name: str) -> Repo:
        found, user = self.server.repos.get(("dataset", name)), self.user()
        owners = (user[0], *user[1]) if user else ()
        if found is None or (found.private and name.partition("/")[0] not in owners):
            raise Refused(404 if user else 401, "Repository not found", "RepoNotFound")
        return found

    def tree_at(self, name: str, revision: str) -> tuple[str, dict[str, File]]:
        found = self.seen(name).at(revision)
        if found is None:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found

    # The routes

    def whoami(self):
        user = self.user()
        if user is None:
            raise Refused(401, "Invalid username or password.")
        return 200, {"type": "user", "name": user[0], "orgs": [{"name": org} for org in user[1]]}, {}

    def create(self):
        asked = json.loads(self.body)
        user = self.user()
        owner = asked.get("organization") or (user[0] if user else "")
        self.writer(owner)
        name, kind = f"{owner}/{asked['name']}", asked.get("type", "model")
        if any(taken == name for _, taken in self.server.repos):
            raise Refused(409, f"You already created this {kind} repo: {name}")
        self.server.make(name, None, asked.get("visibility") == "private", kind)
        return 200, {"url": f"{self.server.url}/datasets/{name}", "name": name}, {}

    def validate(self):
        text = json.loads(self.body)["content"]
        found = re.match(r"^---\n(.*?)\n---", text, re.DOTALL)
        try:
            value = yaml.safe_load(found[1]) if found else {}
            if not re.fullmatch(r"[a-z0-9.-]+", value.get("license", "mit")):
                raise ValueError('"license" must be one of the known identifiers')
        except (ValueError, yaml.YAMLError) as error:
            return 400, {"errors": [{"message": str(error)}], "warnings": []}, {}
        warnings = [] if found else [{"message": "empty or missing yaml metadata in repo card"}]
        return 200, {"errors": [], "warnings": warnings}, {}

    def info(self, repo, revision="main"):
        sha, files = self.tree_at(repo, revision)
        found = {
            "id": repo,
            "sha": sha,
            "private": self.seen(repo).private,
            "siblings": [{"rfilename": path} for path in sorted(files)],
            "cardData": front(files["README.md"].content.decode(errors="replace")) if "README.md" in files else {},
            "tags": [],
        }
        return 200, found, {}

    def tree(self, repo, revision, path=None):
        _, files = self.tree_at(repo, revision)
        inside = {name: file for name, file in files.items() if not path or name.startswith(f"{path}/")}
        if path and not inside:
            raise Refused(404, f"{path} does not exist on {revision}", "EntryNotFound")
        depth = path.count("/") + 1 if path else 0
        if self.query.get("recursive", ["false"])[0].lower() == "true":
            above = {"/".join(name.split("/")[:n]) for name in inside for n in range(depth + 1, name.count("/") + 1)}
            folders = [{"type": "directory", "path": folder, "size": 0, "oid": "0" * 40} for folder in sorted(above)]
            return 200, [*folders, *(file.entry(name) for name, file in sorted(inside.items()))], {}
        folders = sorted({"/".join(name.split("/")[: depth + 1]) for name in inside if name.count("/") > depth})
        here = [file.entry(name) for name, file in sorted(inside.items()) if name.count("/") == depth]
        found = [{"type": "directory", "path": folder, "size": 0, "oid": "0" * 40} for folder in folders]
        return 200, [*found, *here], {}

    def paths_info(self, repo, revision):
        _, files = self.tree_at(repo, revision)
        body = json.loads(self.body) if self.body.startswith(b"{") else parse_qs(self.body.decode())
        found = []
        for path in body["paths"]:
            if path in files:
                found.append(files[path].entry(path))
            elif any(name.startswith(f"{path}/") for name in files):
                found.append({"type": "directory", "path": path, "size": 0, "oid": "0" * 40})
        return 200, found, {}

    def preupload(self, repo, revision):
        self.writer(repo.partition("/")[0])
        _, files = self.tree_at(repo, revision)
        found = []
        for asked in json.loads(self.body)["files"]:
            there = files.get(asked["path"])
            mode = "lfs" if asked["path"].endswith(LFS) else "regular"
            oid = None if there is None else there.sha256 if there.lfs else there.oid
            found.append({"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return 200, {"files": found}, {}

    def batch(self, repo):
        self.writer(repo.partition("/")[0])
        self.seen(repo)
        found = []
        for asked in json.loads(self.body)["objects"]:
            entry = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.server.blobs:
                entry["actions"] = {
                    "upload": {"href": f"{self.server.url}/lfs/{asked['oid']}?{SIGNATURE}"},
                    "verify": {"href": f"{self.server.url}/lfs/verify"},
                }
            found.append(entry)
        return 200, {"transfer": "basic", "objects": found}, {}

    def upload(self, oid):
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refused(400, "the content is not what was announced")
        self.server.blobs[oid] = self.body
        self.server.received[oid] = self.server.received.get(oid, 0) + 1
        return 200, b"", {}

    def verify(self):
        asked = json.loads(self.body)
        if len(self.server.blobs.get(asked["oid"], b"")) != asked["size"]:
            raise Refused(404, "no such object")
        return 200, {}, {}

    def commit(self, repo, revision):
        self.writer(repo.partition("/")[0])
        head, files = self.tree_at(repo, revision)
        files, lines = dict(files), [json.loads(line) for line in self.body.splitlines()]
        (header,) = [line["value"] for line in lines if line["key"] == "header"]
        if header.get("parentCommit", head) != head:
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]), False)
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.server.blobs:
                    raise Refused(400, f"LFS pointer pointed to a file that does not exist: {value['path']}")
                files[value["path"]] = File(self.server.blobs[value["oid"]], True)
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        sha = self.seen(repo).commit(header["summary"], files)
        return (
            200,
            {"success": True, "commitOid": sha, "commitUrl": f"{self.server.url}/datasets/{repo}/commit/{sha}"},
            {},
        )

    def resolve(self, repo, revision, path):
        sha, files = self.tree_at(repo, revision)
        if path not in files:
            raise Refused(404, "Entry not found", "EntryNotFound")
        file = files[path]
        headers = {"X-Repo-Commit": sha, "ETag": f'"{file.sha256 if file.lfs else file.oid}"', "Accept-Ranges": "bytes"}
        if file.lfs:
            headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(len(file.content))}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        if asked is None:
            return 200, file.content, headers | {"Content-Type": "application/octet-stream"}
        first, last = int(asked[1]), int(asked[2] or len(file.content) - 1)
        headers["Content-Range"] = f"bytes {first}-{min(last, len(file.content) - 1)}/{len(file.content)}"
        return 206, file.content[first : last + 1], headers
