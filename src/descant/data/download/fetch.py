"""One section of a recording from the net: yt-dlp finds the sound's address, ffmpeg reads the section there."""

import io
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OK, PRIVATE, REMOVED, AGE, GEO = "ok", "private", "removed", "age", "geo"
BLOCKED, NETWORK, BAD_AUDIO, FAILED = "blocked", "network", "bad audio", "failed"
STATUSES = (OK, PRIVATE, REMOVED, AGE, GEO, BLOCKED, NETWORK, BAD_AUDIO, FAILED)
# These say nothing about the clip: a later attempt may well succeed, within the same run or in the next one.
TRANSIENT = (BLOCKED, NETWORK)
TRIED_BY_THE_NEXT_RUN = (*TRANSIENT, FAILED)

_BROKEN = re.compile(r"ends prematurely|connection reset|i/o error|input/output error|timed out", re.IGNORECASE)
# What ffmpeg says of sound that it could not decode, or that fails a checksum, also where it ends with status 0.
_DAMAGED = re.compile(
    r"crc (mismatch|error)|corrupt|overread|exceeds containing|error (parsing|submitting|while decoding)|"
    r"decoding error|invalid data found",
    re.IGNORECASE,
)
# The first words of a decoder, at which ffmpeg 5 ends without more of its own.
_DECODER = re.compile(r"\[(mp\d\w*|aac\w*|flac|vorbis|(lib)?opus|alac|wma\w*) @ ")
# Nothing about the clip, nor the net: every other clip would end the same.
_OWN_TROUBLE = re.compile(
    r"no space left|disk quota|read-only file system|permission denied|unrecognized option|option \S+ not found|"
    r"protocol not found|unknown (encoder|decoder)|urls are disabled|not a valid url",
    re.IGNORECASE,
)
_HTTP_STATUS = {401: PRIVATE, 403: BLOCKED, 404: REMOVED, 410: REMOVED, 429: BLOCKED, 451: GEO}
# In this order: what YouTube says of a limit or a country also has words that it uses of removed videos, and yt-dlp
# calls a format "not available" where only its JavaScript runtime is missing.
_PHRASES = [
    (BLOCKED, r"not a bot|try again later|rate.?limit|too many requests|captcha"),
    (FAILED, r"requested format|no video formats"),
    (AGE, r"confirm your age|age.restricted|inappropriate for some users"),
    (GEO, r"in your (country|region|location)|geo.?restrict"),
    (PRIVATE, r"private|members.only|premium members|join this channel|requires payment|granted access"),
    (REMOVED, r"video (is |has been )?(unavailable|not available|no longer available|removed|deleted)"),
    (REMOVED, r"(has been|removed by|account) .*(removed|uploader|terminated|deleted)|does not exist|copyright"),
    (BAD_AUDIO, r"invalid data found|not in (the )?whitelist|no such (audio )?stream|matches no streams"),
    (NETWORK, r"connect|urlopen error|resolve|unreachable|no route|ssl|tls|certificate|proxy|incomplete ?read"),
    (NETWORK, r"end of file|unable to download|remote end closed|bytes read|broken pipe|name or service not known"),
]


@dataclass(frozen=True)
class Outcome:
    """A status, what was said, and whether the whole run was told to slow down (perhaps for how long)."""

    status: str
    detail: str = ""
    slow_down: bool = False
    retry_after_s: float | None = None


class FetchError(Exception):
    """A clip that was not fetched; `outcome` says why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.detail)
        self.outcome = outcome


class RunError(ValueError):
    """What is wrong with the run itself, and would end every clip alike; the message is one sentence."""


def classify_message(message: str) -> Outcome:
    """Return the outcome that an error message stands for: FAILED where nothing is known of it.

    Raises:
        RunError: the message is about this machine or the way that the run was started.
    """
    detail = _one_line(message)
    # What a broken connection leaves behind may also be undecodable, which is then no fault of the recording.
    if is_broken_transfer(message):
        return Outcome(NETWORK, detail)
    status = re.search(r"\bHTTP error (\d{3})\b", detail, re.IGNORECASE)
    if status:
        return classify_http_status(int(status[1]), detail)
    own = _OWN_TROUBLE.search(re.sub(r"https?://\S+", "", message))
    if own:
        raise RunError(f"the program that cuts clips says {own[0]!r}: {detail}")
    text = detail.replace("’", "'").lower()
    for kind, pattern in _PHRASES:
        if re.search(pattern, text):
            return Outcome(kind, detail, slow_down=kind == BLOCKED)
    return Outcome(FAILED, detail)


def is_broken_transfer(message: str) -> bool:
    """Return whether ffmpeg's words mean a body that did not arrive whole."""
    return bool(_BROKEN.search(message))


def classify_http_status(status: int, message: str, retry_after: str | None = None) -> Outcome:
    """Return the outcome of an HTTP error; `retry_after` is that header, of which whole seconds are understood."""
    pause = float(retry_after) if retry_after and retry_after.isdigit() else None
    return Outcome(_HTTP_STATUS.get(status, NETWORK), _one_line(message), slow_down=status == 429, retry_after_s=pause)


def _one_line(message: str) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", message).removeprefix("ERROR:")
    # A signed address holds the caller's own, and numbers that read like a status.
    plain = re.sub(r"https?://\S+", "<address>", plain)
    return " ".join(plain.split())[:300]


YOUTUBE = "https://www.youtube.com/watch?v={ytid}"
# One plain file: ffmpeg reads the section's bytes alone. Playlists of segments are never opened.
FORMAT = "ba[protocol=https]/ba[protocol=http]/b[protocol=https]/b[protocol=http]"
READ_TIMEOUT_S = 30
SECTION_TIMEOUT_S = 600
LONGEST_COOKIES = 10_000_000  # bytes
REQUEST_PAUSE_S = 0.75  # between yt-dlp's requests for one recording
PROTOCOLS = "http,https,tcp,tls,httpproxy"
CONTAINERS = "mov,matroska,webm,ogg,mp3,flac,wav,aac"


@dataclass(frozen=True)
class Address:
    """Where the sound of a recording lies, and what to send along to get it."""

    url: str
    headers: str
    cookies: str


def find_ffmpeg(given: str | None = None) -> str:
    """Return the ffmpeg program: the given one, the system's, or the one of the package imageio-ffmpeg.

    Raises:
        ValueError: there is none, or the program is none.
    """
    if given and not shutil.which(given):
        raise ValueError(f"{given}: no such program")
    program = given or shutil.which("ffmpeg") and "ffmpeg"
    if not program:
        try:
            import imageio_ffmpeg

            program = imageio_ffmpeg.get_ffmpeg_exe()
        except (ImportError, RuntimeError):
            raise ValueError("ffmpeg is needed to cut clips: install it, or pip install imageio-ffmpeg") from None
    _require_ffmpeg(program)
    return program


def _require_ffmpeg(program: str) -> None:
    try:
        done = subprocess.run([program, "-version"], capture_output=True, timeout=READ_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"{program}: cannot be run as ffmpeg ({error})") from error
    if not done.stdout.startswith(b"ffmpeg version"):
        raise ValueError(f"{program}: is no ffmpeg, for it does not answer `-version`")


def read_cookies(path: Path) -> str:
    """Return the text of a cookies.txt.

    Raises:
        ValueError: it cannot be read, or holds no cookie in Netscape's format.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file of cookies")
    with path.open("rb") as file:
        data = file.read(LONGEST_COOKIES + 1)
    try:
        if len(data) > LONGEST_COOKIES or b"\0" in data:
            raise ValueError("is longer than any, or binary")
        text = "\n".join(data.decode("utf-8-sig").splitlines()) + "\n"  # a line end of Windows would end a value
        require_cookies(text)
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is no cookies.txt, for it is no text in UTF-8") from None
    except ValueError as error:
        reason = str(error)
        raise ValueError(f"{path}: is no cookies.txt, for it {reason}; export it in Netscape's format") from None
    return text


def require_cookies(text: str) -> None:
    """Raise ValueError for a text that is no cookies.txt or holds no cookie; the message is a reason."""
    from http.cookiejar import LoadError

    from yt_dlp.cookies import YoutubeDLCookieJar

    jar = YoutubeDLCookieJar(io.StringIO(text))
    try:
        with redirect_stderr(io.StringIO()):  # it would print lines that it skips, and secrets with them
            jar.load()
    except LoadError as error:
        raise ValueError(f"cannot be read ({_one_line(str(error))})") from error
    if not len(jar):
        raise ValueError("holds no cookie")


def make_options(cookies: str | None = None, request_pause_s: float = REQUEST_PAUSE_S) -> dict[str, Any]:
    """Return options of `yt_dlp.YoutubeDL`; `cookies` is a cookies.txt's text, so that no one's file is written to."""
    return {
        "format": FORMAT,
        "noplaylist": True,
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "logger": _Silence(),
        "socket_timeout": READ_TIMEOUT_S,
        "sleep_interval_requests": request_pause_s,
        # The run tries again by itself, later, when the others have had their turn.
        "extractor_retries": 0,
        "cookiefile": io.StringIO(cookies) if cookies else None,
    }


class Fetcher:
    """Fetches sections; keep one a thread, since yt-dlp's object is not shared between threads."""

    def __init__(
        self,
        ffmpeg: str,
        url_template: str = YOUTUBE,
        cookies: str | None = None,
        request_pause_s: float = REQUEST_PAUSE_S,
    ) -> None:
        import yt_dlp

        self.ffmpeg = ffmpeg
        self.url_template = url_template
        self.downloader = yt_dlp.YoutubeDL(make_options(cookies, request_pause_s))

    def fetch(self, ytid: str, start_s: float, end_s: float, path: Path) -> None:
        """Write seconds `start_s` to `end_s` (or to the recording's end) as a WAV file.

        Raises:
            FetchError: this recording is not to be had, or is damaged.
            RunError: no recording is to be had in this way.
        """
        self._fetch_section(self._find(ytid), start_s, end_s, path)

    def _find(self, ytid: str) -> Address:
        import yt_dlp

        try:
            info = self.downloader.extract_info(self.url_template.replace("{ytid}", ytid), download=False)
        except yt_dlp.cookies.CookieLoadError as error:
            raise RunError("the cookies cannot be read: give a cookies.txt in Netscape's format") from error
        except yt_dlp.utils.YoutubeDLError as error:
            raise FetchError(_classify(error)) from error
        if not info or "url" not in info:
            raise FetchError(Outcome(BAD_AUDIO, "the address leads to a playlist, not to one recording"))
        headers = "".join(f"{name}: {value}\r\n" for name, value in info.get("http_headers", {}).items())
        jar = self.downloader.cookiejar.get_cookies_for_url(info["url"])
        cookies = "".join(f"{c.name}={c.value}; path={c.path}; domain={c.domain};\r\n" for c in jar)
        return Address(info["url"], headers, cookies)

    def _fetch_section(self, address: Address, start_s: float, end_s: float, path: Path) -> None:
        command = [self.ffmpeg, "-nostdin", "-hide_banner", "-loglevel", "warning", "-y"]
        command += ["-protocol_whitelist", PROTOCOLS, "-format_whitelist", CONTAINERS]
        command += ["-rw_timeout", str(READ_TIMEOUT_S * 1_000_000)]
        # Sound that cannot be decoded, or fails its checksum, ends ffmpeg, which else would leave it out.
        command += ["-xerror", "-err_detect:a", "crccheck+explode"]
        command += ["-headers", address.headers] if address.headers else []
        command += ["-cookies", address.cookies] if address.cookies else []
        # ffmpeg 9 drops the first frame after a seek, so that is one second early, and the filter cuts by the
        # recording's own time. A copied stream could not be cut to the sample at all.
        early = max(0.0, start_s - 1)
        command += ["-ss", f"{early:g}", "-copyts"] if early else []
        command += ["-t", f"{end_s - early + 1:g}", "-i", address.url, "-map", "0:a:0"]
        command += ["-af", f"atrim={start_s:g}:{end_s:g},asetpts=PTS-STARTPTS"]
        command += ["-c:a", "pcm_f32le", "-f", "wav", str(path)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=SECTION_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            raise FetchError(Outcome(NETWORK, f"timed out after {SECTION_TIMEOUT_S} s")) from None
        except OSError as error:
            raise RunError(f"{self.ffmpeg} cannot be run: {error}") from error
        said = done.stderr.decode(errors="replace") or f"ffmpeg ended with status {done.returncode}"
        # ffmpeg calls it a success when a body ends before its announced length, and when pages fail their checksum.
        outcome = classify_message(said) if done.returncode != 0 or is_broken_transfer(said) else None
        damaged = _DAMAGED.search(said) or (outcome is not None and _DECODER.match(said))
        if damaged and (outcome is None or outcome.status == FAILED):
            outcome = Outcome(BAD_AUDIO, _one_line(said))
        if outcome is not None:
            raise FetchError(outcome)


def _classify(error: Exception) -> Outcome:
    from yt_dlp.networking.exceptions import HTTPError, TransportError
    from yt_dlp.utils import GeoRestrictedError

    for cause in _causes(error):
        if isinstance(cause, HTTPError):
            return classify_http_status(cause.status, str(error), cause.response.headers.get("Retry-After"))
        if isinstance(cause, GeoRestrictedError):
            return Outcome(GEO, _one_line(str(error)))
        if isinstance(cause, TransportError):
            return Outcome(NETWORK, _one_line(str(error)))
    return classify_message(str(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Give what yt-dlp raised and all that it wraps, from the outside in."""
    from yt_dlp.utils import DownloadError, ExtractorError

    while error is not None:
        yield error
        if isinstance(error, DownloadError):
            error = error.exc_info[1] if error.exc_info else None
        else:
            error = error.cause if isinstance(error, ExtractorError) else error.__cause__


class _Silence:
    """yt-dlp's messages come back as exceptions too, and go to the ledger."""

    def debug(self, message: str) -> None: ...
    def info(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def error(self, message: str) -> None: ...
