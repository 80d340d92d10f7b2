"""The words of YouTube, yt-dlp and ffmpeg are told apart: gone for good, not for us, or try again later."""

import pytest

from descant.data.download.outcomes import classify_http_status, classify_message

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
        ("[youtube] abc: Requested format is not available. Use --list-formats for a list", "network"),
        ("[youtube] abc: This video is only available to Music Premium members", "private"),
        ("Sorry. YouTube is requiring a captcha challenge before playback", "blocked"),
        ("This video has been removed for violating YouTube's policy", "removed"),
        ("This account has been terminated due to multiple notices of copyright infringement", "removed"),
        ("something that no one has seen before", "network"),
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
