"""What stands before the page: known routes, the token, hosts, sizes, room; its pages load nothing from elsewhere."""

import asyncio
import base64
import binascii
import hmac
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from descant.doors.requests import Limits, Refusal
from descant.doors.server import App, Guard, Message, Receive, Scope, Send, read_host

# Gradio's routes that the page, its API and its tools need, of those that it has.
ROUTES = {
    "GET": r"/|/config/?|/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt|/(assets|static|svelte)/.*"
    r"|/gradio_api/(info/?|openapi\.json|app_id/?|queue/data|upload_progress|heartbeat/\w+|file=.*|call/.*|mcp(/|/http/?"
    r"|/schema/?)?)",
    "POST": r"/gradio_api/(upload/?|queue/join/?|reset/?|cancel/?|(run|api|call)/.*|mcp(/|/http/?)?)",
    "DELETE": r"/gradio_api/mcp(/|/http/?)?",
}
ROUTES["HEAD"] = ROUTES["GET"]
OPEN = ("/manifest.json",)  # which browsers ask for without a password; it holds the page's title
# Scripts and styles of gradio stand in the page itself, and sound that was recorded is a blob.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'"
)
SENT = (
    (b"content-security-policy", POLICY.encode()), (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)  # fmt: skip
KEPT_S = 3600.0  # that uploads are kept, at most
LEAST_BYTES = 2**16  # that a file counts for, so that their number is bounded too
SAFE_S = 60.0  # that an upload is kept at least: one that still comes is written to


class Uploads:
    """The folder of uploads, below a size: for new ones the oldest are removed, and all that are older than an hour.

    Those of uploads that broke off are among them, which gradio forgets.
    """

    def __init__(self, folder: Path, most: int) -> None:
        """most: bytes of all files together, those that still come among them."""
        self.folder, self.most = folder, most
        self.coming = 0  # bytes of requests that are under way
        self.lock = asyncio.Lock()

    @asynccontextmanager
    async def take(self, size: int) -> AsyncIterator[None]:
        """Make room for the files of a request of so many bytes, and hold it meanwhile; raises Refusal."""
        async with self.lock:
            if await asyncio.to_thread(self.clear, self.coming + size) > self.most:
                raise Refusal(507, "there is no room for more recordings: try again later", **{"Retry-After": "60"})
            self.coming += size
        try:
            yield
        finally:
            self.coming -= size

    def clear(self, more: int) -> int:
        """Remove what is old until there is room for `more` bytes; return how many bytes there are with these."""
        now, held = time.time(), sorted(self._list())
        total = more + sum(size for _, size, _ in held)
        for at, size, path in held:
            if now - at > KEPT_S or (total > self.most and now - at > SAFE_S):
                with suppress(OSError):
                    path.unlink()
                    total -= size
                    path.parent.rmdir()  # gradio's own for one file
        return total

    def _list(self) -> Iterator[tuple[float, int, Path]]:
        for path in self.folder.rglob("*"):
            with suppress(OSError):  # gradio has removed it
                if not path.is_dir():
                    status = path.lstat()
                    # By when it came here: a copy has its original's time of writing.
                    yield status.st_ctime, max(status.st_size, LEAST_BYTES), path


class PageGate(Guard):
    """Lets requests through to the page: known ones, with the token, not too many at a time, too large or too slow.

    The token is sent as a bearer, or as the password of HTTP's basic authentication. What requests send is written
    into the folder of uploads, which has to have room for it.
    """

    sent = SENT

    def __init__(
        self, app: App, limits: Limits, token: str | None, names: Sequence[str] | None, uploads: Uploads
    ) -> None:
        super().__init__(app, limits, token, names)
        self.uploads = uploads

    async def _take(self, scope: Scope, headers: dict[str, str], receive: Receive, send: Send) -> None:
        announced = headers.get("content-length", "0")
        if not announced.isdecimal() or int(announced[:20]) > self.limits.bytes:
            raise self._too_large()
        if self.inside >= self.limits.requests:
            raise Refusal(429, "too many requests at a time: try again later", **{"Retry-After": "5"})
        self.inside += 1
        body = Body(receive, self.limits)
        size = int(announced) if "content-length" in headers else self.limits.bytes
        try:
            async with self.uploads.take(size):
                await self.app(scope, body.read, send)
        except Exception:
            if body.refusal is not None:  # what the application makes of it does not count
                raise body.refusal from None
            raise
        finally:
            self.inside -= 1

    def _check(self, path: str, method: str, headers: dict[str, str]) -> None:
        if not re.fullmatch(ROUTES.get(method, ""), path):
            raise Refusal(404, "there is no such page here")
        host = headers.get("host", "")
        if self.names is not None and read_host(host) not in self.names:
            raise Refusal(421, "the request is for a host of another name")  # a page of the web that points here
        origin = headers.get("origin")
        if origin is not None and (self.names is not None or self.token) and origin.partition("://")[2] != host:
            raise Refusal(403, "the request comes from a page of another host")
        if self.token and path not in OPEN and not is_let_in(headers.get("authorization", ""), self.token):
            raise Refusal(401, "the token is missing or wrong", **{"WWW-Authenticate": 'Basic realm="descant"'})

    def _too_large(self) -> Refusal:
        return Refusal(413, f"the request has more than {self.limits.bytes} bytes", Connection="close")


class Body:
    """The body of a request as it comes, ended by a refusal where it is too large or stops."""

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self.receive, self.limits = receive, limits
        self.bytes, self.ended = 0, False
        self.refusal: Refusal | None = None

    async def read(self) -> Message:
        """Return the next piece; raises Refusal."""
        if self.ended:
            return await self.receive()  # that the client has gone away
        try:
            message = await asyncio.wait_for(self.receive(), self.limits.stall_s)
        except TimeoutError:
            self.refusal = Refusal(408, "the request stopped before its end", Connection="close")
            raise self.refusal from None
        self.bytes += len(message.get("body", b""))
        self.ended = not message.get("more_body")
        if self.bytes > self.limits.bytes:
            self.refusal = Refusal(413, f"the request has more than {self.limits.bytes} bytes", Connection="close")
            raise self.refusal
        return message


def is_let_in(header: str, token: str) -> bool:
    """Return whether an Authorization header holds the token, as a bearer or as a password with any name."""
    kind, _, given = header.partition(" ")
    if kind.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return False
    elif kind.lower() != "bearer":
        return False
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())
