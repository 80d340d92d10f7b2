"""Everything that comes from the Hugging Face Hub or goes there: patient, whole, and explained in one sentence."""

import hashlib
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any, TypeVar

from huggingface_hub import (
    _CACHED_NO_EXIST,
    HfApi,
    RepoFile,
    constants,
    errors,
    get_session,
    hf_hub_download,
    snapshot_download,
    try_to_load_from_cache,
)

log = logging.getLogger(__name__)

Result = TypeVar("Result")
# The HTTP library underneath: httpx of huggingface_hub 1, httpx2 of 2.
http: Any = sys.modules[errors.HfHubHTTPError.__mro__[1].__module__.partition(".")[0]]

WAIT_VARIABLE = "DESCANT_HUB_WAIT_S"  # seconds before the second attempt; each further wait is twice as long
FETCH_RETRIES, PUSH_RETRIES = 4, 6
LONGEST_WAIT_S = 300  # that a server may ask for; the Hub counts requests in windows of 300 s
LONGEST_SILENCE_S = 60  # an attempt that heard nothing for so long is the last one
WRITING_TAKES = 12  # times as long may the answer to an upload or a commit take as that to a question
# What transformers reads of a repository, where it holds weights that are no pickles.
MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model")
# Models that come with the package: names that no repository is asked for.
SHIPPED = ("musicnn",)
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
DENIED = (401, 402, 403)
LOG_IN = "log in with `hf auth login` (or set HF_TOKEN)"
ELSEWHERE = "look at HF_ENDPOINT, and at whether your network asks for a login of its own"
# The OSErrors that are not about this machine's disk.
EXPLAINED_BELOW = (errors.HfHubHTTPError, errors.FileMetadataError, errors.LocalEntryNotFoundError, ConnectionError)
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


class _ShortTransfer(Exception):
    """A file arrived with other than its announced bytes, or broke off in a way that httpx does not name."""


class _LongWait(Exception):
    """A server asks for a longer pause than anyone should sit through."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"asks to wait {seconds:.0f} s")


def fetch_folder(repo_id: str, patterns: Sequence[str], *, revision: str | None = None) -> Path:
    """Return the folder in the cache with a model's files that match one of `patterns`, all of them whole.

    Folders within the repository are left out. Files that were checked before are not read again as long as they stay
    as they are (see `require_whole`). Where the Hub is out of reach, the copy of an earlier call is taken, with a log
    line.

    Raises:
        NetworkError: the Hub is out of reach, or sends damaged files.
        MissingError: no such repository or revision, or not for this token.
        DeniedError: the token, or the lack of one, is refused.
    """

    def fetch(local_only: bool) -> str:
        return snapshot_download(
            repo_id, revision=revision, allow_patterns=list(patterns), ignore_patterns="*/*",
            local_files_only=local_only,
        )  # fmt: skip

    folder = _fetch(fetch, repo_id)
    for path in sorted(folder.iterdir()):
        if any(fnmatch(path.name, pattern) for pattern in patterns) and path.is_file():
            require_whole(path, path.name, repo_id, "model")
    return folder


def fetch_model(source: str | Path) -> None:
    """Fetch what transformers loads of a model on the Hub; leave a folder on this machine alone.

    Pickled weights are fetched only of a repository that holds no others. Raises as `fetch_folder`.
    """
    if source in SHIPPED or Path(source).exists():
        return
    folder = fetch_folder(str(source), MODEL_FILES)
    if not any(folder.glob("*.safetensors")):
        fetch_folder(str(source), ("pytorch_model*.bin",))


def load_patiently(load: Callable[[], Result], *sources: str | Path) -> Result:
    """Return the result of `load`, which loads the models `sources` by name, once all their files are here and whole.

    Raises:
        NetworkError: one sentence; errors of loading itself pass through.
    """
    for source in sources:
        fetch_model(source)
    return patiently(load, ", ".join(map(str, sources)))


def fetch_file(repo_id: str, name: str, *, revision: str | None = None, kind: str = "model") -> Path:
    """Return the copy in the cache of one file of a repository; see `fetch_folder`.

    Args:
        kind: "model", "dataset" or "space".
    """

    def fetch(local_only: bool) -> str:
        return hf_hub_download(repo_id, name, repo_type=kind, revision=revision, local_files_only=local_only)

    path = _fetch(fetch, repo_id)
    require_whole(path, name, repo_id, kind)
    return path


def find_file(repo_id: str, name: str, *, revision: str | None = None, kind: str = "model") -> Path | None:
    """Return the copy in the cache of one file, None where the repository is there and has no such file.

    That it has none is remembered in the cache, so that it needs no network the next time. Raises as `fetch_folder`.
    """
    try:
        return fetch_file(repo_id, name, revision=revision, kind=kind)
    except NetworkError as error:
        if isinstance(error.__cause__, errors.RemoteEntryNotFoundError):
            return None
        if isinstance(error.__cause__, errors.HFValidationError):
            raise
        if try_to_load_from_cache(repo_id, name, revision=revision, repo_type=kind) is _CACHED_NO_EXIST:
            return None
        raise


def _fetch(fetch: Callable[[bool], str], repo_id: str) -> Path:
    try:
        return Path(ask_hub(partial(fetch, False), repo_id))
    except (MissingError, DeniedError):
        raise
    except NetworkError as error:
        try:
            cached = fetch(True)
        except (OSError, ValueError):
            raise error from error.__cause__
        log.warning("%s; going on with the copy on this machine", error)
        return Path(cached)


def require_whole(path: Path, name: str, repo_id: str, kind: str = "model") -> None:
    """Compare a file in the cache with the hash that the Hub names for it; fetch a damaged one once again.

    The Hub names the sha256 of a large file and git's hash of a small one, and the cache keeps each file under it: a
    body that was changed on its way is noticed without another request. What was found whole is remembered beside the
    cached files by size and modification time, and not read again as long as these stay.

    Raises:
        NetworkError: damaged, and damaged again or out of reach when fetched anew. The file is then removed.
    """
    if _is_remembered(path):
        return
    expected = _expected_hash(path, name, repo_id, kind)
    if expected is None:
        return
    if _hash(path, expected) != expected:
        log.warning("%s: %s is damaged, and is fetched again", repo_id, name)
        _fetch_again(path, name, repo_id, kind)
        if _hash(path, expected) != expected:
            _remove(path)
            raise NetworkError(
                f"{repo_id}: {name} arrived damaged twice, with another hash than {constants.ENDPOINT} names: try "
                "again later, or by another network, for something on the way changes it"
            )
    _remember(path)


def _expected_hash(path: Path, name: str, repo_id: str, kind: str) -> str | None:
    """Return 64 digits of a sha256 or 40 of git's hash, None where neither the cache nor the Hub says it."""
    if path.is_symlink():
        tag = Path(os.readlink(path)).name
        return tag if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", tag) else None
    commit = path.parents[len(Path(name).parts) - 1].name  # a cache without links holds the files themselves
    try:
        found = ask_hub(partial(HfApi().get_paths_info, repo_id, [name], revision=commit, repo_type=kind), repo_id)
    except NetworkError:
        return None
    files = [entry for entry in found if isinstance(entry, RepoFile)]
    return next((file.lfs.sha256 if file.lfs else file.blob_id for file in files), None)


def _hash(path: Path, like: str) -> str:
    with path.open("rb") as file:
        if len(like) == 64:
            return hashlib.file_digest(file, "sha256").hexdigest()
        start = b"blob %d\0" % path.stat().st_size
        return hashlib.file_digest(file, lambda: hashlib.sha1(start, usedforsecurity=False)).hexdigest()


def _fetch_again(path: Path, name: str, repo_id: str, kind: str) -> None:
    commit = path.parents[len(Path(name).parts) - 1].name
    _remove(path)
    again = partial(hf_hub_download, repo_id, name, repo_type=kind, revision=commit, force_download=True)
    try:
        ask_hub(again, repo_id)
    except NetworkError as error:
        raise NetworkError(f"{repo_id}: {name} is damaged on this machine; to fetch it again: {error}") from error


def _note_of(path: Path) -> Path:
    """Return the file that remembers that a cached file is whole: `<repository>/checked/<hash>` in the cache."""
    snapshots = next(parent for parent in path.parents if parent.name == "snapshots")
    name = Path(os.readlink(path)).name if path.is_symlink() else "--".join(path.relative_to(snapshots).parts)
    return snapshots.with_name("checked") / name


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def _is_remembered(path: Path) -> bool:
    try:
        return _note_of(path).read_text() == _stamp(path)
    except OSError:
        return False


def _remember(path: Path) -> None:
    note = _note_of(path)
    try:  # half a note means another check, and so does none in a cache that cannot be written to
        note.parent.mkdir(exist_ok=True)
        note.write_text(_stamp(path))
    except OSError as error:
        log.debug("%s: %s", note, error)


def _remove(path: Path) -> None:
    """Remove a cached file and what it links to, so that the next call fetches it."""
    if path.is_symlink():
        (path.parent / os.readlink(path)).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def ask_hub(
    call: Callable[[], Result], source: str, *, retries: int = FETCH_RETRIES, hub: str | None = None
) -> Result:  # fmt: skip
    """Return the result of a call that does nothing but speak to the Hub; see `patiently`.

    What such a call raises besides network errors is explained too: answers that are not a Hub's, bodies of another
    length than announced, a cache that cannot be written to.
    """
    hub = hub or constants.ENDPOINT

    def explained() -> Result:
        try:
            return call()
        except STRANGE_ANSWERS as error:
            raise _not_a_hub(source, hub) from error
        except EXPLAINED_BELOW:
            raise
        except OSError as error:
            if error.errno is None:  # huggingface_hub's check of a file's length
                raise _ShortTransfer(_first_line(error)) from error
            where = error.filename or constants.HF_HUB_CACHE
            raise NetworkError(f"{source} cannot be kept in the cache: {error.strerror}: {where}") from error
        except RuntimeError as error:  # of hf_xet, which names its errors no further
            raise _ShortTransfer(_first_line(error)) from error

    return patiently(explained, source, retries=retries, hub=hub)


def patiently(
    call: Callable[[], Result], source: str, *, retries: int = FETCH_RETRIES, hub: str | None = None
) -> Result:  # fmt: skip
    """Return the result of `call`, which may speak to the Hub, tried again after errors that pass.

    These are 408, 429 and 5xx, refused and broken connections, and servers that do not answer: no request waits for
    ever (`HF_HUB_DOWNLOAD_TIMEOUT`, 10 s; longer for uploads). Between attempts lie 1, 2, 4, … s, of which
    `DESCANT_HUB_WAIT_S` sets the first, or what the server asks for, up to 300 s.

    Args:
        source: what is asked for, as messages name it.
        retries: attempts after the first.
        hub: the address that messages name; that of the client by default.

    Raises:
        NetworkError: one sentence. MissingError and DeniedError are never tried again. Errors that have nothing to do
            with the network pass through as they are.
    """
    hub = hub or constants.ENDPOINT
    waits = [_first_wait() * 2**number for number in range(retries)]
    for attempt, wait in enumerate([*waits, None], 1):
        began = monotonic()
        try:
            _bound_client()
            return call()
        except NetworkError:
            raise
        except Exception as error:  # libraries wrap network errors in errors of every kind
            trouble = _explain(error, source, hub)
            if trouble is None:
                raise
            given_up = trouble.is_silence and monotonic() - began > LONGEST_SILENCE_S
            if not trouble.passes or wait is None or given_up:
                raise trouble.as_error(source, hub, attempt) from (trouble.cause or error)
        pause = max(wait, trouble.wait_s)
        log.warning("%s: %s; trying again in %.3g s", source, trouble.problem, pause)
        sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _first_wait() -> float:
    given = os.environ.get(WAIT_VARIABLE, "1")
    try:
        return max(0.0, float(given))
    except ValueError:
        raise ValueError(f"{WAIT_VARIABLE}={given!r} is no number of seconds") from None


def _bound_client() -> None:
    """Bound the waits of the client that huggingface_hub shares: by itself it waits for ever, and sleeps as told."""
    client = get_session()
    hooks = client.event_hooks
    if _bound_request not in hooks["request"]:
        client.event_hooks = {
            "request": [*hooks["request"], _bound_request],
            "response": [*hooks["response"], _bound_response],
        }


def _bound_request(request: Any) -> None:
    limit = float(max(constants.HF_HUB_DOWNLOAD_TIMEOUT, constants.HF_HUB_ETAG_TIMEOUT))
    read = limit if request.method in ("GET", "HEAD") else limit * WRITING_TAKES
    given = request.extensions.get("timeout") or {}
    bounds = {"connect": limit, "read": read, "write": read, "pool": read}
    request.extensions["timeout"] = {name: min(given.get(name) or bound, bound) for name, bound in bounds.items()}


def _bound_response(response: Any) -> None:
    if response.status_code in TRANSIENT and _asked_wait(response) > LONGEST_WAIT_S:
        raise _LongWait(_asked_wait(response))


@dataclass(frozen=True)
class _Trouble:
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
        said = f"{source}: {hub} could not be reached in {many} ({self.problem}): {self.advice}"
        return self.error or NetworkError(said)


def _explain(error: BaseException, source: str, hub: str) -> _Trouble | None:
    """Return what an error, or any that it was raised from, says of the network; None where it says nothing."""
    for cause in _causes(error):
        trouble = _explain_one(cause, source, hub)
        if trouble:
            return trouble
    if isinstance(error, errors.LocalEntryNotFoundError):
        return _Trouble(error=MissingError(f"{source} is not on this machine, and was not looked for elsewhere"))
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__  # also where a library hides it by `from None`


def _explain_one(error: BaseException, source: str, hub: str) -> _Trouble | None:
    if isinstance(error, NetworkError):
        return _Trouble(error=error)
    if isinstance(error, errors.HfHubHTTPError):
        return _explain_status(error, source, hub)
    if isinstance(error, errors.HFValidationError):
        reason = _first_line(error)
        return _Trouble(error=MissingError(f"{source!r} is no name of a repository: {reason}"), cause=error)
    if isinstance(error, errors.OfflineModeIsEnabled) or "(OfflineModeIsEnabled)" in str(error):  # as datasets says
        said = f"{source}: HF_HUB_OFFLINE forbids to ask {hub} for it, and this machine does not hold it: unset it"
        return _Trouble(error=NetworkError(said), cause=error)
    if isinstance(error, errors.FileMetadataError):
        return _Trouble(error=_not_a_hub(source, hub), cause=error)
    if isinstance(error, _LongWait):
        said = f"{source}: {hub} {error}: try again then, or {LOG_IN} for a higher limit"
        return _Trouble(error=NetworkError(said), cause=error)
    if isinstance(error, _ShortTransfer | ConnectionError | TimeoutError):
        return _Trouble(f"the transfer broke off: {_first_line(error)}")
    return _explain_transport(error, source, hub)


def _explain_status(error: errors.HfHubHTTPError, source: str, hub: str) -> _Trouble:
    response: Any = error.response
    status = response.status_code if response is not None else 0
    if status in TRANSIENT:
        busy = f"try again later, or {LOG_IN} for a higher limit" if status == 429 else "try again later"
        return _Trouble(f"status {status} {response.reason_phrase}".strip(), wait_s=_asked_wait(response), advice=busy)
    return _Trouble(error=_refusal(error, status, source, hub), cause=error)


def _refusal(error: errors.HfHubHTTPError, status: int, source: str, hub: str) -> NetworkError:
    if isinstance(error, errors.GatedRepoError):
        return DeniedError(f"{source} is gated: ask for access on {hub}/{source}, then {LOG_IN}")
    if isinstance(error, errors.DisabledRepoError):
        return DeniedError(f"{source} is disabled by {hub}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return MissingError(f"{source} is not on {hub}, or is private: check its name, and {LOG_IN} if it is private")
    if isinstance(error, errors.RevisionNotFoundError):
        return MissingError(f"{source} has no such revision on {hub}")
    if isinstance(error, errors.EntryNotFoundError):
        name = str(error.response.url).partition("/resolve/")[2].partition("/")[2]
        return MissingError(f"{source} holds no {name or 'such file'} on {hub}")
    if status == 401:
        return DeniedError(f"{source}: {hub} does not accept your token (401): {LOG_IN} anew")
    if status in DENIED:
        return DeniedError(f"{source}: {hub} does not let you have it ({status}): {LOG_IN} as somebody who may")
    return NetworkError(f"{source}: {hub} refused it: {_first_line(error)}")


def _explain_transport(error: BaseException, source: str, hub: str) -> _Trouble | None:
    if isinstance(error, http.TimeoutException):
        limit = max(constants.HF_HUB_DOWNLOAD_TIMEOUT, constants.HF_HUB_ETAG_TIMEOUT)
        return _Trouble(f"no answer in {limit:g} s, which HF_HUB_DOWNLOAD_TIMEOUT can extend", is_silence=True)
    if isinstance(error, http.TooManyRedirects):
        return _Trouble(error=NetworkError(f"{source}: {hub} redirects in a circle: {ELSEWHERE}"), cause=error)
    if isinstance(error, http.UnsupportedProtocol | http.InvalidURL):
        said = f"{source}: {hub} is no address of the web ({_first_line(error)}): look at HF_ENDPOINT"
        return _Trouble(error=NetworkError(said), cause=error)
    if isinstance(error, http.LocalProtocolError):
        said = f"{source}: cannot be asked for ({_first_line(error)}): look at HF_ENDPOINT and HF_TOKEN"
        return _Trouble(error=NetworkError(said), cause=error)
    if isinstance(error, http.ConnectError) and "CERTIFICATE_VERIFY" in str(error):
        said = (
            f"{source}: the certificate of {hub} is not trusted ({_first_line(error)}): {ELSEWHERE}; a certificate of "
            "your network goes into the file that SSL_CERT_FILE names"
        )
        return _Trouble(error=NetworkError(said), cause=error)
    if isinstance(error, http.TransportError | http.DecodingError):
        return _Trouble(_first_line(error))
    return None


def _not_a_hub(source: str, hub: str) -> NetworkError:
    return NetworkError(f"{source}: {hub} does not answer as a Hub does: {ELSEWHERE}")


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _asked_wait(response: Any) -> float:
    """Return the seconds of Retry-After (a number or a date), or those until the Hub's rate limit begins anew."""
    told = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", told):
        return float(told)
    try:
        return max(0.0, parsedate_to_datetime(told).timestamp() - time())
    except (ValueError, TypeError):
        limit = re.search(r"\br=0;\s*t=(\d+)", response.headers.get("RateLimit", ""))
        return float(limit[1]) if limit else 0.0
