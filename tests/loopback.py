"""A small HTTP server on loopback that answers as it is told to, with every fault a server can have."""

import json
import threading
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sesame-1234"


class Small(ThreadingHTTPServer):
    """`fault(server, request)` answers a POST: (status, body[, headers]), or None for `true_answer(request)`.

    Attributes:
        pages: GET path -> body; the others are not found.
        key: what GETs of /v1/... want, if anything.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path, true_answer, fault=None, pages=None, key=""):
        super().__init__(("127.0.0.1", 0), Handler)
        self.path, self.true_answer, self.fault = path, true_answer, fault
        self.pages, self.key = pages or {}, key
        self.requests, self.keys, self.flying, self.most, self.lock = [], set(), 0, 0, threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, request, client_address):
        """A client that hung up is no matter here."""

    def stop(self):
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_): ...

    def answer(self, status, body, headers=None):
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        server = self.server
        if not server.pages.get(self.path):
            self.answer(404, {"detail": "Not Found"})
        elif self.path.startswith("/v1/") and server.key and self.headers["Authorization"] != f"Bearer {server.key}":
            self.answer(401, {"error": {"message": f"wrong: {self.headers['Authorization']}"}})
        else:
            self.answer(200, server.pages[self.path])

    def do_POST(self):
        server = self.server
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.requests.append(request)
            server.keys.add(self.headers["Authorization"])
            server.flying += 1
            server.most = max(server.most, server.flying)
        try:
            answer = server.fault(server, request) if server.fault else None
        finally:
            with server.lock:
                server.flying -= 1
        assert self.path == server.path
        self.answer(*(answer or server.true_answer(request)))


@contextmanager
def opening(monkeypatch):
    """Gives a function that starts a `Small` and a stack that closes what is put on it; no key, and no proxy."""
    for name in ("CURATE_SERVER_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    with ExitStack() as stack:

        def small(*args, **options):
            server = Small(*args, **options)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            return server

        yield small, stack


def refuse(status, message="", **headers):
    """A fault: every request is answered with `status`."""
    return lambda *_: (status, {"error": {"message": message}}, headers)


def at_once(count, fault):
    """The fault, once `count` requests have come: none is answered before the last of them."""
    barrier = threading.Barrier(count, timeout=60)

    def held(server, request):
        barrier.wait()
        return fault(server, request)

    return held


def first(count, fault):
    """The fault for the first `count` requests, the true answer after."""
    return lambda server, request: fault(server, request) if len(server.requests) <= count else None
