"""What goes wrong between here and the Hugging Face Hub, each in one sentence that names the way out."""

import json
import re
import ssl
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

from huggingface_hub import constants
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

# The HTTP library underneath: httpx of huggingface_hub 1, httpx2 of 2.
http: Any = sys.modules[HfHubHTTPError.__mro__[1].__module__.partition(".")[0]]

TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
DENIED = (401, 402, 403)
LOG_IN = "log in with `hf auth login` (or set HF_TOKEN)"
ELSEWHERE = "look at HF_ENDPOINT, and at whether your network asks for a login of its own"
# What huggingface_hub raises on answers that are no JSON, or JSON of another shape than the Hub's.
STRANGE_ANSWERS = (json.JSONDecodeError, KeyError, TypeError, AttributeError, AssertionError)


class NetworkError(ValueError):
    """The Hub did not give or take something; the message is one sentence for the user."""


class MissingError(NetworkError):
    """The Hub has nothing of that name, or does not show it to whoever asks."""


class DeniedError(NetworkError):
    """The Hub refuses this token, or the lack of one."""


class PublishError(ValueError):
    """A folder cannot be published, or the Hub refuses it; the message is one sentence for the user."""


class ShortTransfer(Exception):
    """A file arrived with other than its announced bytes, or broke off in a way that httpx does not name."""


class LongWait(Exception):
    """A server asks for a longer pause than anyone should sit through."""

    def __init__(self, seconds: float):
        super().__init__(f"asks to wait {seconds:.0f} s")


@dataclass(frozen=True)
class Trouble:
    """What went wrong: `error` as it stands, or a `problem` that may pass and becomes an error when it does not."""

    problem: str = ""
    error: NetworkError | None = None
    cause: BaseException | None = None
    wait_s: float = 0.0
    is_silence: bool = False
    advice: str = "try again later"

    @property
    def passes(self) -> bool:
        return self.error is None

    def as_error(self, source: str, hub: str, attempts: int) -> NetworkError:
        many = f"{attempts} attempts" if attempts > 1 else "1 attempt"
        return self.error or NetworkError(
            f"{source}: {hub} could not be reached in {many} ({self.problem}): {self.advice}"
        )


def explain(error: BaseException, source: str, hub: str) -> Trouble | None:
    """Return what an error, or any that it was raised from, says of the network; None where it says nothing."""
    for cause in _causes(error):
        trouble = _explain_one(cause, source, hub)
        if trouble:
            return trouble
    if isinstance(error, LocalEntryNotFoundError):
        return Trouble(error=MissingError(f"{source} is not on this machine, and was not looked for elsewhere"))
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _explain_one(error: BaseException, source: str, hub: str) -> Trouble | None:
    if isinstance(error, NetworkError):
        return Trouble(error=error)
    if isinstance(error, HfHubHTTPError):
        return _explain_status(error, source, hub)
    if isinstance(error, HFValidationError):
        reason = first_line(error)
        return Trouble(error=MissingError(f"{source!r} is no name of a repository: {reason}"), cause=error)
    if isinstance(error, OfflineModeIsEnabled):
        said = f"{source}: HF_HUB_OFFLINE forbids to ask {hub} for it, and this machine does not hold it: unset it"
        return Trouble(error=NetworkError(said), cause=error)
    if isinstance(error, FileMetadataError):
        return Trouble(error=not_a_hub(source, hub), cause=error)
    if isinstance(error, LongWait):
        said = f"{source}: {hub} {error}: try again then, or {LOG_IN} for a higher limit"
        return Trouble(error=NetworkError(said), cause=error)
    if isinstance(error, ShortTransfer | ConnectionError | TimeoutError):
        return Trouble(f"the transfer broke off: {first_line(error)}")
    return _explain_transport(error, source, hub)


def _explain_status(error: HfHubHTTPError, source: str, hub: str) -> Trouble:
    response: Any = error.response
    status = response.status_code if response is not None else 0
    if status in TRANSIENT:
        busy = f"try again later, or {LOG_IN} for a higher limit" if status == 429 else "try again later"
        return Trouble(f"status {status} {response.reason_phrase}".strip(), wait_s=asked_wait(response), advice=busy)
    return Trouble(error=_refusal(error, status, source, hub), cause=error)


def _refusal(error: HfHubHTTPError, status: int, source: str, hub: str) -> NetworkError:
    if isinstance(error, GatedRepoError):
        return DeniedError(f"{source} is gated: ask for access on {hub}/{source}, then {LOG_IN}")
    if isinstance(error, DisabledRepoError):
        return DeniedError(f"{source} is disabled by {hub}")
    if isinstance(error, RepositoryNotFoundError):
        return MissingError(f"{source} is not on {hub}, or is private: check its name, and {LOG_IN} if it is private")
    if isinstance(error, RevisionNotFoundError):
        return MissingError(f"{source} has no such revision on {hub}")
    if isinstance(error, EntryNotFoundError):
        name = str(error.response.url).partition("/resolve/")[2].partition("/")[2]
        return MissingError(f"{source} holds no {name or 'such file'} on {hub}")
    if status == 401:
        return DeniedError(f"{source}: {hub} does not accept your token (401): {LOG_IN} anew")
    if status in DENIED:
        return DeniedError(f"{source}: {hub} does not let you have it ({status}): {LOG_IN} as somebody who may")
    return NetworkError(f"{source}: {hub} refused it: {first_line(error)}")


def _explain_transport(error: BaseException, source: str, hub: str) -> Trouble | None:
    if isinstance(error, http.TimeoutException):
        limit = max(constants.HF_HUB_DOWNLOAD_TIMEOUT, constants.HF_HUB_ETAG_TIMEOUT)
        return Trouble(f"no answer in {limit:g} s, which HF_HUB_DOWNLOAD_TIMEOUT can extend", is_silence=True)
    if isinstance(error, http.TooManyRedirects):
        return Trouble(error=NetworkError(f"{source}: {hub} redirects in a circle: {ELSEWHERE}"), cause=error)
    if isinstance(error, http.UnsupportedProtocol | http.InvalidURL):
        said = f"{source}: {hub} is no address of the web ({first_line(error)}): look at HF_ENDPOINT"
        return Trouble(error=NetworkError(said), cause=error)
    if isinstance(error, http.LocalProtocolError):
        said = f"{source}: cannot be asked for ({first_line(error)}): look at HF_ENDPOINT and HF_TOKEN"
        return Trouble(error=NetworkError(said), cause=error)
    if isinstance(error, http.ConnectError) and _is_about_certificates(error):
        said = (
            f"{source}: the certificate of {hub} is not trusted ({first_line(error)}): {ELSEWHERE}; a certificate of "
            "your network goes into the file that SSL_CERT_FILE names"
        )
        return Trouble(error=NetworkError(said), cause=error)
    if isinstance(error, http.TransportError | http.DecodingError):
        return Trouble(first_line(error))
    return None


def _is_about_certificates(error: BaseException) -> bool:
    causes = _causes(error)
    return "CERTIFICATE" in str(error) or any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes)


def not_a_hub(source: str, hub: str) -> NetworkError:
    return NetworkError(f"{source}: {hub} does not answer as a Hub does: {ELSEWHERE}")


def first_line(error: BaseException) -> str:
    lines: Iterable[str] = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)


def asked_wait(response: Any) -> float:
    """Return the seconds of Retry-After (a number or a date), or those until the Hub's rate limit begins anew."""
    told = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", told):
        return float(told)
    try:
        return max(0.0, parsedate_to_datetime(told).timestamp() - time())
    except (ValueError, TypeError):
        limit = re.search(r"\br=0;\s*t=(\d+)", response.headers.get("RateLimit", ""))
        return float(limit[1]) if limit else 0.0
