"""A Hugging Face Hub on the loopback interface for tests, with faults on request."""

import json
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from hub_routes import TOKEN, Reply, answer
from hub_store import HubStore
from huggingface_hub import HfApi


@dataclass
class Fault:
    """What happens to the next `times` requests whose "METHOD /path" matches `where`.

    kind: an HTTP status ("403", "429", "500", …); "reset" (the connection breaks before anything is done); "lost"
    (the request is carried out, then the connection breaks); "short" (half of the answer's body arrives); "corrupt"
    (some bytes of the body are others); "silent" (no answer at all); "stalled" (half of the body, then nothing);
    "loop" (a redirect to the same address); "html" (a page in place of an answer).
    headers: of an answer that is a status.
    """

    kind: str
    where: str = "."
    times: int = 1
    headers: tuple[tuple[str, str], ...] = (("Retry-After", "0"),)

    def takes(self, request: str) -> bool:
        if self.times <= 0 or not re.search(self.where, request):
            return False
        self.times -= 1
        return True


class LocalHub:
    """An in-memory Hub: `with LocalHub() as hub: hub.api().create_repo(...)`.

    The token's user is `tester`: writing anywhere else answers 403, writing without a token 401.
    """

    def __init__(self, certificate: str | Path | None = None) -> None:
        """certificate: a PEM file with key and certificate, with which the Hub speaks TLS."""
        self.store = HubStore()
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "LocalHub":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def fail(self, kind: str | int, where: str = ".", times: int = 1, **headers: str) -> None:
        """Make the next `times` requests matching the regular expression `where` go wrong; see `Fault`.

        headers: such as `Retry_After="3"`.
        """
        named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        self.faults.append(Fault(str(kind), where, times, named or Fault.headers))

    def api(self, token: str | bool = TOKEN) -> HfApi:
        return HfApi(endpoint=self.url, token=token)

    def environment(self, home: str | Path) -> dict[str, str]:
        """A whole environment for a subprocess that takes this server for the Hub; `home` is its empty cache."""
        hub = {"HF_ENDPOINT": self.url, "HF_TOKEN": TOKEN, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
        quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
        quiet["DESCANT_HUB_WAIT_S"] = "0.01"
        return {**os.environ, **hub, **quiet, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

    def run(
        self, home: str | Path, *arguments: str, environment: dict[str, str] | None = None, **options: object
    ) -> subprocess.CompletedProcess:
        """Runs `python *arguments` against this Hub, stdout and stderr captured as text."""
        env = environment or self.environment(home)
        return subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True, **options)

    def files(self, repo_id: str, kind: str = "model", revision: str = "main") -> dict[str, bytes]:
        """The contents of a repository, by path."""
        commit = self.store.repo(kind, repo_id).at(revision)
        return {path: self.store.blobs[entry.blob] for path, entry in commit.files.items()}

    def commits(self, repo_id: str, kind: str = "model") -> list[str]:
        """The commits' messages, oldest first (the first is the Hub's own "initial commit")."""
        return [commit.message for commit in self.store.repo(kind, repo_id).commits]


class _Handler(BaseHTTPRequestHandler):
    """Reads a request, applies a fault where one waits, else sends what its route answers."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or head and body of an answer lie 40 ms apart
    hub: LocalHub

    def log_message(self, *_: object) -> None: ...

    def do_any(self) -> None:
        body = self._read_body()
        name = f"{self.command} {self.path}"
        with self.hub.store.lock:
            self.hub.requests.append(name)
            fault = next((f for f in self.hub.faults if f.takes(name)), None)
        kind = fault.kind if fault else ""
        if kind in ("reset", "silent"):
            return self._say_nothing(wait=kind == "silent")
        instead = fault is not None and (kind in ("loop", "html") or kind.isdigit())
        reply = self._fault(fault) if fault and instead else self._answer(body)
        if kind == "lost":
            return self._say_nothing(wait=False)
        self._send(reply, kind)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_any

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _say_nothing(self, wait: bool) -> None:
        if wait:
            self.hub.closing.wait(60)
        # Lingering for zero seconds turns the close into a TCP reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _fault(self, fault: Fault) -> Reply:
        if fault.kind == "loop":
            return Reply({}, 302, (("Location", self.path),))
        if fault.kind == "html":
            return Reply(b"<html>Log in to this network</html>", content_type="text/html")
        return Reply({"error": f"injected {fault.kind}"}, int(fault.kind), fault.headers)

    def _answer(self, body: bytes) -> Reply:
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.hub.store.lock:
            return answer(self.hub.store, f"{self.command} {self.path}", headers, body)

    def _send(self, reply: Reply, kind: str) -> None:
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in reply.headers:
            self.send_header(name, value)
        self.end_headers()
        half, is_cut = body[: len(body) // 2], kind in ("short", "stalled")
        if kind == "corrupt":
            body = half + bytes(byte ^ 0x55 for byte in body[len(half) : len(half) + 400]) + body[len(half) + 400 :]
        if self.command != "HEAD":
            self.wfile.write(half if is_cut else body)
        if is_cut:
            self._say_nothing(wait=kind == "stalled")
