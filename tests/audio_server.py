"""A loopback HTTP server of recordings that misbehaves on request, for the tests of the download and of addresses."""

import io
import re
import socket
import struct
import threading
import time
import zlib
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import soundfile

TYPES = {"wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg", "mp3": "audio/mpeg", "m4a": "audio/mp4"}


def music(seconds: float, rate: int = 44_100, seed: int = 0) -> np.ndarray:
    """Mono sound that is like itself at no other place: a few tones that wander, (samples,)."""
    generator = np.random.default_rng(seed)
    steps = generator.uniform(200, 3000, (3, int(seconds * 4) + 2))
    at = np.arange(round(seconds * rate)) / rate
    pitches = (np.interp(at, np.arange(row.size) / 4, row) for row in steps)
    return sum(0.2 * np.sin(2 * np.pi * np.cumsum(pitch) / rate) for pitch in pitches).astype(np.float32)


def encode(samples: np.ndarray, kind: str = "flac", rate: int = 44_100) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind.upper())
    return buffer.getvalue()


class AudioServer:
    """Serves `files[name]`, with ranges. `faults[name]` holds what the next requests get instead: a status code,
    "reset", "cut" (half the body), "stall" (half the body, then nothing until the server ends); None stands for a good
    answer. The last fault stays where `for_ever` has the name. `sent[name]` counts the bytes of bodies."""

    def __init__(self, ranges: bool = True):
        self.ranges = ranges
        self.closing = threading.Event()
        self.sent: dict[str, int] = defaultdict(int)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list] = defaultdict(list)
        self.for_ever: set[str] = set()
        self.headers: dict[int, dict[str, str]] = {}
        self.requests: list[tuple[float, str]] = []
        self._lock = threading.Lock()

    def __enter__(self) -> "AudioServer":
        self._server = _QuietServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def template(self) -> str:
        return self.url + "/{ytid}"

    def next_fault(self, name: str):
        with self._lock:
            self.requests.append((time.monotonic(), name))
            faults = self.faults[name]
            if len(faults) == 1 and name in self.for_ever:
                return faults[0]
            return faults.pop(0) if faults else None

    def count(self, name: str) -> int:
        return sum(requested == name for _, requested in self.requests)


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None: ...  # a client that hangs up, as ffmpeg does when it has enough


def _handler(state: AudioServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None: ...

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.strip("/")
            name = path if path in state.files else path.partition("?")[0]
            fault = state.next_fault(name)
            if fault == "reset":
                # A closing with this option sends a reset instead of an orderly end.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
            elif isinstance(fault, int) or name not in state.files:
                self._answer(fault if isinstance(fault, int) else 404, b"no", {"Content-Type": "text/html"})
            else:
                self._send_file(state.files[name], cut=fault in ("cut", "stall"))
                if fault == "stall" and self.command != "HEAD":
                    state.closing.wait(60)

        def _send_file(self, body: bytes, cut: bool) -> None:
            wanted = state.ranges and re.match(r"bytes=(\d+)-(\d*)$", self.headers.get("Range", ""))
            first = int(wanted[1]) if wanted else 0
            part = body[first : int(wanted[2]) + 1 if wanted and wanted[2] else None]
            headers = {"Content-Type": _content_type(body), "ETag": f'"{zlib.crc32(body)}"'}
            headers |= {"Accept-Ranges": "bytes"} if state.ranges else {}
            if wanted:
                headers["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{len(body)}"
            self._answer(206 if wanted else 200, part, headers, cut)

        def _answer(self, status: int, body: bytes, headers: dict[str, str], cut: bool = False) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers, **state.headers.get(status, {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                half = body[: len(body) // 2] if cut else body
                state.sent[self.path.strip("/").partition("?")[0]] += len(half)
                try:
                    self.wfile.write(half)
                    self.wfile.flush()
                except ConnectionError:
                    self.close_connection = True
            self.close_connection = self.close_connection or cut

    return Handler


def _content_type(body: bytes) -> str:
    for start, kind in ((b"RIFF", "wav"), (b"fLaC", "flac"), (b"OggS", "ogg")):
        if body.startswith(start):
            return TYPES[kind]
    return TYPES["m4a"] if body[4:8] == b"ftyp" else TYPES["mp3"]
