"""Sections come from the net exact to the sample, and what goes wrong on the way is told apart."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yt_dlp
from audio_server import AudioServer, encode, music

from descant.data.audio import load_audio
from descant.data.download.fetch import (
    FORMAT,
    Fetcher,
    FetchError,
    RunError,
    _classify,
    classify_http_status,
    classify_message,
    find_ffmpeg,
    make_options,
)
from descant.data.download.run import cut_clip, section_of


@pytest.fixture(scope="module")
def server():
    with AudioServer() as server:
        yield server


@pytest.fixture(scope="module")
def fetcher(server):
    return Fetcher(find_ffmpeg(), server.template, request_pause_s=0)


def as_m4a(samples: np.ndarray, folder: Path) -> bytes:
    (folder / "in.wav").write_bytes(encode(samples, "wav"))
    command = [find_ffmpeg(), "-loglevel", "error", "-i", folder / "in.wav", "-c:a", "aac", "-b:a", "128k"]
    subprocess.run([*command, "-movflags", "+faststart", folder / "out.m4a"], check=True)
    return (folder / "out.m4a").read_bytes()


def as_webm(samples: np.ndarray, folder: Path) -> bytes:
    (folder / "in.wav").write_bytes(encode(samples, "wav"))
    command = [find_ffmpeg(), "-loglevel", "error", "-i", folder / "in.wav", "-c:a", "libopus", "-b:a", "128k"]
    subprocess.run([*command, folder / "out.webm"], check=True)
    return (folder / "out.webm").read_bytes()


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "m4a", "webm"])
@pytest.mark.parametrize("window", [(0, 3), (11, 14)])
def test_clip_is_the_annotated_window_of_the_recording(server, fetcher, tmp_path, kind, window):
    samples = music(16)
    made = {"m4a": as_m4a, "webm": as_webm}
    server.files["song"] = made[kind](samples, tmp_path) if kind in made else encode(samples, kind)
    fetcher.fetch("song", *section_of(*window), tmp_path / "section.wav")
    cut_clip(tmp_path / "section.wav", *window, tmp_path / "clip.flac")
    clip = load_audio(tmp_path / "clip.flac")
    (tmp_path / "whole.wav").write_bytes(encode(samples, "wav"))
    wanted = load_audio(tmp_path / "whole.wav")[window[0] * 16_000 : window[1] * 16_000]
    assert len(clip) == 3 * 16_000
    assert abs(lag(clip, wanted)) <= 0.001 * 16_000
    if kind in ("wav", "flac"):
        assert np.abs(clip - wanted)[800:-800].max() < 2e-4


def lag(one: np.ndarray, other: np.ndarray) -> int:
    size = 2 * len(one)
    product = np.fft.irfft(np.fft.rfft(one, size) * np.conj(np.fft.rfft(other, size)))
    peak = int(product.argmax())
    return peak if peak < len(one) else peak - size


@pytest.mark.parametrize(
    ("faults", "status", "slow_down"),
    [
        ([403], "blocked", False),
        ([404], "removed", False),
        ([410], "removed", False),
        ([429], "blocked", True),
        ([451], "geo", False),
        ([500], "network", False),
        (["reset"] * 9, "network", False),
        ([None, 403], "blocked", False),
        ([None, 404], "removed", False),
        ([None, 429], "blocked", True),
        ([None, 500], "network", False),
        ([None, 503], "network", False),
        ([None] + ["reset"] * 9, "network", False),
        ([None] + ["cut"] * 9, "network", False),
    ],
)
def test_fault_before_and_while_the_sound_is_fetched(server, fetcher, tmp_path, faults, status, slow_down):
    server.files["song"] = encode(music(8), "wav")
    server.faults["song"] = list(faults)
    with pytest.raises(FetchError) as caught:
        fetcher.fetch("song", 0, 6, tmp_path / "section.wav")
    server.faults["song"].clear()
    assert (caught.value.outcome.status, caught.value.outcome.slow_down) == (status, slow_down)
    assert caught.value.outcome.detail


def test_retry_after_header_is_understood(server, fetcher, tmp_path):
    server.faults["song"], server.headers[429] = [429], {"Retry-After": "7"}
    with pytest.raises(FetchError) as caught:
        fetcher.fetch("song", 0, 6, tmp_path / "section.wav")
    assert caught.value.outcome.retry_after_s == 7


def test_playlist_that_calls_itself_sound_opens_nothing(server, fetcher, tmp_path):
    server.files["other"] = encode(music(8), "wav")
    server.files["list.mp3"] = f"#EXTM3U\n#EXTINF:8,\n{server.url}/other\n#EXT-X-ENDLIST\n".encode()
    before = server.count("other")
    with pytest.raises(FetchError):
        fetcher.fetch("list.mp3", 0, 6, tmp_path / "section.wav")
    assert server.count("other") == before


def test_page_without_sound_is_no_clip(server, fetcher, tmp_path):
    server.files["page"] = b"<html><body>hello</body></html>"
    with pytest.raises(FetchError):
        fetcher.fetch("page", 0, 6, tmp_path / "section.wav")


def test_file_addresses_are_refused(tmp_path):
    (tmp_path / "song.wav").write_bytes(encode(music(3), "wav"))
    with pytest.raises(RunError, match="URLs are disabled"):
        Fetcher(find_ffmpeg(), f"file://{tmp_path}/{{ytid}}.wav").fetch("song", 0, 2, tmp_path / "section.wav")


def test_options_are_what_yt_dlp_itself_reads_from_a_command_line():
    line = ["--format", FORMAT, "--no-playlist", "--quiet", "--no-warnings", "--no-progress", "--socket-timeout", "30"]
    line += ["--sleep-requests", "0.75", "--extractor-retries", "0"]
    parsed = yt_dlp.parse_options([*line, "--ignore-config"]).ydl_opts
    options = make_options()
    ours = {name: value for name, value in options.items() if name not in ("logger", "cookiefile")}
    assert ours == {name: parsed[name] for name in ours}
    assert parsed.keys() >= options.keys() - {"logger"}


def test_cookies_are_sent_and_the_given_file_is_not_written():
    text = "# Netscape HTTP Cookie File\n.youtube.com\tTRUE\t/\tTRUE\t4102444800\tSID\tsecret\n"
    fetcher = Fetcher("ffmpeg", cookies=text)
    (cookie,) = fetcher.downloader.cookiejar.get_cookies_for_url("https://www.youtube.com/watch?v=x")
    assert (cookie.name, cookie.value) == ("SID", "secret")


def test_youtube_address_goes_to_the_youtube_extractor():
    url = Fetcher("ffmpeg").url_template.format(ytid="-0Gj8-vB1q4")
    suitable = [ie.IE_NAME for ie in yt_dlp.extractor.gen_extractor_classes() if ie.suitable(url)]
    assert suitable[0] == "youtube"


def test_country_restriction_is_told_by_its_class():
    cause = yt_dlp.utils.GeoRestrictedError("restricted")
    error = yt_dlp.utils.DownloadError("ERROR: restricted", (type(cause), cause, None))
    assert _classify(error).status == "geo"


def test_ffmpeg_is_found_or_its_absence_explained(monkeypatch):
    with pytest.raises(ValueError, match="no such program"):
        find_ffmpeg("/nowhere/ffmpeg")
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert "ffmpeg" in find_ffmpeg()
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ValueError, match="pip install imageio-ffmpeg"):
        find_ffmpeg()


BOT = "ERROR: [youtube] abc: Sign in to confirm you’re not a bot. Use --cookies-from-browser or --cookies"
LATER = "This content isn't available, try again later. The current session has been rate-limited by YouTube"
COUNTRY = "The uploader has not made this video available in your country"


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (BOT, "blocked"),
        (LATER, "blocked"),
        ("HTTP Error 429: Too Many Requests", "blocked"),
        ("[youtube] abc: Private video. Sign in if you've been granted access to this video", "private"),
        ("Join this channel to get access to members-only content like this video", "private"),
        ("[youtube] abc: Video unavailable", "removed"),
        ("Video unavailable. This video has been removed by the uploader", "removed"),
        ("Video unavailable. This video is no longer available because the account has been terminated", "removed"),
        ("Video unavailable. This video contains content from X, who has blocked it on copyright grounds", "removed"),
        ("Sign in to confirm your age. This video may be inappropriate for some users.", "age"),
        (COUNTRY, "geo"),
        ("Video unavailable. This video is not available in your country", "geo"),
        ("Who has blocked it in your country on copyright grounds. Video unavailable", "geo"),
        ("[http @ 0x1] HTTP error 403 Forbidden\nServer returned 403 Forbidden (access denied)", "blocked"),
        ("[http @ 0x1] HTTP error 410 Gone", "removed"),
        ("[http @ 0x1] HTTP error 503 Service Unavailable", "network"),
        ("[http @ 0x1] Stream ends prematurely at 10, should be 20. Invalid data found", "network"),
        ("Error opening input: Invalid data found when processing input", "bad audio"),
        ("Stream map '0:a:0' matches no streams.", "bad audio"),
        ("<urlopen error [Errno -2] Name or service not known>", "network"),
        ("[youtube] abc: Requested format is not available. Use --list-formats for a list", "failed"),
        ("[generic] abc: Unable to extract title; please report this issue", "failed"),
        ("[https @ 0x1] Failed to resolve hostname r3.example", "network"),
        ("ffmpeg ended with status 1", "failed"),
        ("[youtube] abc: This video is only available to Music Premium members", "private"),
        ("Sorry. YouTube is requiring a captcha challenge before playback", "blocked"),
        ("This video has been removed for violating YouTube's policy", "removed"),
        ("This account has been terminated due to multiple notices of copyright infringement", "removed"),
        ("something that no one has seen before", "failed"),
    ],
)
def test_message_has_its_status(message, status):
    assert classify_message(message).status == status


@pytest.mark.parametrize("message", [BOT, LATER, "HTTP Error 429: Too Many Requests"])
def test_what_youtube_says_to_the_whole_run_slows_it_down(message):
    assert classify_message(message).slow_down


def test_single_forbidden_file_does_not_slow_the_run_down():
    assert not classify_message("HTTP error 403 Forbidden").slow_down


def test_signed_address_is_neither_kept_nor_read():
    outcome = classify_message("https://r3.example/play?ip=1.2.3.4&id=private404 End of file")
    assert outcome.status == "network" and "1.2.3.4" not in outcome.detail


def test_detail_is_one_short_plain_line():
    detail = classify_message("\x1b[0;31mERROR:\x1b[0m a\nb" + "x" * 1000).detail
    assert detail.startswith("a bx") and len(detail) == 300


@pytest.mark.parametrize(("header", "seconds"), [("30", 30.0), (None, None), ("Wed, 21 Oct 2026 07:28:00 GMT", None)])
def test_retry_after_in_seconds_is_kept(header, seconds):
    assert classify_http_status(429, "x", header).retry_after_s == seconds
