"""A run fetches every clip that can be had, accounts for the rest, goes on after a kill; its ledger loses no line."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from audio_server import AudioServer, encode, music

from descant.data.annotations import Row, make_clip_id
from descant.data.download import DownloadSettings, download_clips
from descant.data.download import run as running
from descant.data.download.fetch import FetchError
from descant.data.download.ledger import Ledger, LedgerEntry
from descant.data.download.run import Pace, Stopped, cut_clip, section_of

WINDOW = (2.0, 4.0)
SONG = encode(music(5, rate=16_000), "wav", 16_000)


@pytest.fixture
def server():
    with AudioServer() as server:
        yield server


def rows(*names: str) -> list[Row]:
    return [Row(clip_id(name), None, "a song", None, "musiccaps", *WINDOW) for name in names]


def clip_id(name: str) -> str:
    return make_clip_id(name, *WINDOW)


def run(server: AudioServer, folder: Path, *names: str, **changes):
    fast = {"sleep_s": 0, "retry_wait_s": 0.01, "backoff_s": 0.05, "url_template": server.template}
    return download_clips(rows(*names), folder, DownloadSettings(**fast | changes), progress=False)


def statuses(folder: Path) -> dict[str, str]:
    entries = Ledger(folder).entries
    return {name.split("]")[0][1:]: entry.status for name, entry in entries.items()}


def test_every_injected_fault_ends_in_its_status(server, tmp_path):
    faults = {"f403": [403], "f404": [404], "f500": [500], "reset": ["reset"], "cut": ["cut"]}
    for name, answers in faults.items():
        server.files[name], server.faults[name] = SONG, answers
        server.for_ever.add(name)
    server.files["silent"] = encode(0 * music(5, 16_000), "wav", 16_000)
    server.files["short"] = encode(music(3, 16_000), "wav", 16_000)
    server.files["text"] = b"\x00\x01\x02" * 1000
    server.files["good"] = server.files["once429"] = server.files["once500"] = SONG
    server.faults["once429"], server.faults["once500"] = [429], [None, 500]
    names = [*faults, "silent", "short", "text", "good", "once429", "once500"]
    summary = run(server, tmp_path, *names, jobs=3)
    assert statuses(tmp_path) == {
        "f403": "blocked", "f404": "removed", "f500": "network", "reset": "network", "cut": "network",
        "silent": "bad audio", "short": "bad audio", "text": "bad audio",
        "good": "ok", "once429": "ok", "once500": "ok",
    }  # fmt: skip
    assert summary.counts == Counter(ok=3, network=3, removed=1, blocked=1) + Counter({"bad audio": 3})
    assert not summary.complete and summary.backoffs >= 1
    assert sorted(path.name for path in tmp_path.glob("*.flac")) == sorted(
        f"{clip_id(name)}.flac" for name in ("good", "once429", "once500")
    )


def test_clip_is_16_khz_mono_of_the_window_and_in_the_ledger(server, tmp_path):
    server.files["-a"] = SONG
    assert run(server, tmp_path, "-a").complete
    entry = Ledger(tmp_path).entries[clip_id("-a")]
    info = soundfile.info(tmp_path / entry.file)
    assert (info.samplerate, info.channels, info.frames) == (16_000, 1, 32_000)
    assert entry.duration_s == 2 and len(entry.sha256) == 64


def test_gone_for_good_is_asked_once_and_again_only_on_demand(server, tmp_path):
    run(server, tmp_path, "gone")
    run(server, tmp_path, "gone")
    assert server.count("gone") == 1
    server.files["gone"] = SONG
    assert run(server, tmp_path, "gone", retry_failed=True).complete


def test_transient_failure_is_tried_again_after_the_others(server, tmp_path):
    server.files["a"] = server.files["b"] = SONG
    server.faults["a"] = [500]
    assert run(server, tmp_path, "a", "b", jobs=1).complete
    asked = [name for _, name in server.requests]
    assert asked.index("b") < len(asked) - asked[::-1].index("a") - 1
    assert Ledger(tmp_path).entries[clip_id("a")].attempts == 2


def test_transient_failure_is_tried_again_by_the_next_run(server, tmp_path):
    server.faults["a"] = [500]
    server.files["a"] = SONG
    run(server, tmp_path, "a", attempts=1)
    assert statuses(tmp_path) == {"a": "network"}
    assert run(server, tmp_path, "a", attempts=1).complete


def test_one_429_pauses_all_workers_once(server, tmp_path):
    names = [f"clip{i}" for i in range(6)]
    server.files |= dict.fromkeys(names, SONG)
    server.faults["clip0"] = [429]
    summary = run(server, tmp_path, *names, jobs=2, backoff_s=0.6)
    assert summary.complete and summary.backoffs == 1
    times = sorted(at for at, _ in server.requests)
    assert max(later - earlier for earlier, later in zip(times, times[1:], strict=False)) > 0.3


def test_blocked_for_good_stops_the_run_and_leaves_the_rest_untried(server, tmp_path):
    names = [f"clip{i}" for i in range(12)]
    server.faults |= {name: [429] for name in names}
    server.for_ever.update(names)
    summary = run(server, tmp_path, *names, jobs=1, backoff_s=0.001, max_backoffs=3)
    assert summary.stopped and summary.counts["not tried"] == 8 and summary.counts["blocked"] == 4
    assert set(statuses(tmp_path).values()) == {"blocked"}


def test_refusals_of_several_clips_in_a_row_slow_the_run_down(server, tmp_path):
    names = ["a", "b", "c", "d"]
    server.faults |= {name: [403] for name in names}
    server.files |= dict.fromkeys(names, SONG)
    summary = run(server, tmp_path, *names, jobs=1)
    assert summary.complete and summary.backoffs == 1


def test_finished_clips_are_not_fetched_again(server, tmp_path):
    server.files |= {"a": SONG, "b": SONG}
    run(server, tmp_path, "a")
    asked = server.count("a")
    summary = run(server, tmp_path, "a", "b")
    assert summary.complete and server.count("a") == asked


# Five clips in a process, and then it waits: what is to be killed cannot have ended before.
KILLED_RUN = """
import sys, time
sys.path[:0] = {tests!r}
from pathlib import Path
from test_download_run import rows, DownloadSettings, Ledger, download_clips
added, add = [], Ledger.add
def stop(ledger, entry):
    added.append(entry)
    add(ledger, entry) if len(added) <= 5 else time.sleep(600)
Ledger.add = stop
settings = DownloadSettings(sleep_s=0, retry_wait_s=0, url_template={template!r})
download_clips(rows(*{names!r}), {folder!r}, settings, progress=False)
"""


def test_killed_runs_lose_no_clip_and_leave_no_half_one(server, tmp_path):
    names = [f"clip{i}" for i in range(12)]
    server.files |= dict.fromkeys(names, SONG)
    run(server, tmp_path / "whole", *names)
    folder = tmp_path / "killed"
    tests = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    code = KILLED_RUN.format(tests=tests, template=server.template, names=names, folder=str(folder))
    for wanted in (2, 6):
        process = subprocess.Popen([sys.executable, "-c", code])
        while len(list(folder.glob("*.flac"))) < wanted:
            assert process.poll() is None
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert 0 < len(Ledger(folder).entries) < 12
    assert run(server, folder, *names).complete
    assert (folder / "ledger.jsonl").read_text() == (tmp_path / "whole/ledger.jsonl").read_text()
    assert sorted(path.name for path in folder.iterdir()) == sorted(p.name for p in (tmp_path / "whole").iterdir())


def test_ledger_line_is_plain_json_with_the_promised_fields(server, tmp_path):
    run(server, tmp_path, "gone")
    (line,) = (tmp_path / "ledger.jsonl").read_text().splitlines()
    assert json.loads(line).keys() >= {"clip_id", "status", "detail", "sha256", "duration_s"}


RATE = 16_000


def section(path, seconds: float, level: float = 0.3, rate: int = RATE, channels: int = 1):
    samples = level * np.random.default_rng(0).uniform(-1, 1, (round(seconds * rate), channels))
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return path


def test_section_has_a_margin_that_does_not_begin_before_the_recording():
    assert section_of(30, 40) == (29, 41)
    assert section_of(0, 10) == (0, 11)


def test_window_is_cut_out_of_the_margin(tmp_path):
    path = section(tmp_path / "s.wav", 4)
    samples, _ = soundfile.read(path, dtype="float32")
    clip = cut_clip(path, 30, 32, tmp_path / "clip.flac")
    written, rate = soundfile.read(tmp_path / "clip.flac", dtype="float32")
    assert rate == RATE and len(written) == 2 * RATE and clip.duration_s == 2
    np.testing.assert_allclose(written, samples[RATE : 3 * RATE], atol=1e-4)


def test_clip_that_misses_20_ms_is_filled_up_and_one_that_misses_more_is_bad(tmp_path):
    clip = cut_clip(section(tmp_path / "s.wav", 2.985), 30, 32, tmp_path / "clip.flac")
    assert clip.duration_s == pytest.approx(1.985) and soundfile.info(tmp_path / "clip.flac").frames == 2 * RATE
    with pytest.raises(FetchError, match=r"only 1\.97 s of the window's 2 s") as caught:
        cut_clip(section(tmp_path / "s.wav", 2.97), 30, 32, tmp_path / "bad.flac")
    assert caught.value.outcome.status == "bad audio" and not (tmp_path / "bad.flac").exists()


@pytest.mark.parametrize("level", [0.0, 0.0015])
def test_clip_under_minus_60_dbfs_is_bad(tmp_path, level):
    with pytest.raises(FetchError, match="silent") as caught:
        cut_clip(section(tmp_path / "s.wav", 3, level), 0, 2, tmp_path / "clip.flac")
    assert caught.value.outcome.status == "bad audio"


def test_section_that_is_no_sound_is_bad(tmp_path):
    (tmp_path / "s.wav").write_text("hello")
    with pytest.raises(FetchError) as caught:
        cut_clip(tmp_path / "s.wav", 0, 2, tmp_path / "clip.flac")
    assert caught.value.outcome.status == "bad audio"


def test_any_rate_and_channel_count_becomes_16_khz_mono(tmp_path):
    cut_clip(section(tmp_path / "s.wav", 3, rate=48_000, channels=6), 0, 2, tmp_path / "clip.flac")
    info = soundfile.info(tmp_path / "clip.flac")
    assert (info.samplerate, info.channels, info.frames) == (RATE, 1, 2 * RATE)


def test_starts_are_spaced_over_all_workers():
    pace = Pace(sleep_s=0.04, backoff_s=1, max_backoffs=1)
    began = []
    workers = [threading.Thread(target=lambda: began.append(pace.wait())) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    began.sort()
    assert all(later - earlier >= 0.02 for earlier, later in zip(began, began[1:], strict=False))


@pytest.fixture
def waits(monkeypatch):
    """Give the pauses that are made on a clock that no time passes on but by waiting."""
    made = []

    class Condition(threading.Condition):
        def wait(self, timeout=None):
            made.append(round(timeout, 9))

    monkeypatch.setattr(running, "threading", SimpleNamespace(Condition=Condition))
    monkeypatch.setattr(running, "time", SimpleNamespace(monotonic=lambda: sum(made)))
    return made


def test_answers_to_requests_of_one_moment_are_one_pause(waits):
    pace = Pace(sleep_s=0, backoff_s=0.1, max_backoffs=5)
    began = pace.wait()
    pace.slow_down(began)
    pace.slow_down(began - 1e-3)  # that of another worker, which began before the pause
    pace.wait()
    assert pace.backoffs == 1 and waits == [0.1]


def test_pause_doubles_until_something_goes_well(waits):
    pace = Pace(sleep_s=0, backoff_s=0.05, max_backoffs=5)
    for goes_well in (False, False, True, False):
        if goes_well:
            pace.went_well()
        pace.slow_down(pace.wait())
    pace.wait()
    assert waits == [0.05, 0.1, 0.05, 0.1]


def test_servers_own_pause_counts_where_it_is_longer(waits):
    pace = Pace(sleep_s=0, backoff_s=0.01, max_backoffs=5)
    pace.slow_down(pace.wait(), retry_after_s=0.1)
    pace.wait()
    assert waits == [0.1]


def test_run_stops_after_too_many_pauses_in_a_row():
    pace = Pace(sleep_s=0, backoff_s=0.001, max_backoffs=2)
    for _ in range(3):
        pace.slow_down(pace.wait())
    with pytest.raises(Stopped, match="go on in some hours"):
        pace.wait()


def test_waiting_workers_are_woken_by_a_stop():
    pace = Pace(sleep_s=0, backoff_s=100, max_backoffs=2)
    pace.slow_down(pace.wait())
    threading.Timer(0.05, pace.stop, args=("interrupted",)).start()
    with pytest.raises(Stopped, match="interrupted"):
        pace.wait()


def lines(ledger: Ledger) -> list[dict]:
    return [json.loads(line) for line in ledger.path.read_text().splitlines()]


def test_last_line_of_a_clip_counts_and_closing_leaves_one_a_clip(tmp_path):
    with Ledger(tmp_path) as ledger:
        ledger.add(LedgerEntry("b", "network", "reset"))
        ledger.add(LedgerEntry("a", "private"))
        ledger.add(LedgerEntry("b", "removed", attempts=2))
        assert len(lines(ledger)) == 3
        assert Ledger(tmp_path).entries["b"].status == "removed"
    assert [(line["clip_id"], line["status"]) for line in lines(ledger)] == [("a", "private"), ("b", "removed")]


def test_line_torn_by_a_kill_costs_only_itself(tmp_path):
    with Ledger(tmp_path) as ledger:
        ledger.add(LedgerEntry("a", "private"))
    with open(ledger.path, "a") as file:
        file.write('{"clip_id": "b", "sta')
    torn = Ledger(tmp_path)
    assert list(torn.entries) == ["a"]
    torn.add(LedgerEntry("c", "age"))
    assert sorted(Ledger(tmp_path).entries) == ["a", "c"]


def test_pending_are_the_new_and_the_transient_and_on_demand_the_failed(tmp_path):
    ledger = Ledger(tmp_path)
    for status in ("network", "blocked", "private", "removed", "age", "geo", "bad audio"):
        ledger.add(LedgerEntry(status, status))
    clips = ["new", *ledger.entries]
    assert ledger.pending(clips, retry_failed=False) == ["new", "network", "blocked"]
    assert ledger.pending(clips, retry_failed=True) == clips


def test_clip_whose_file_is_gone_or_changed_is_pending_again(tmp_path):
    import hashlib

    ledger = Ledger(tmp_path)
    for name in ("whole", "changed", "gone"):
        (tmp_path / f"{name}.flac").write_bytes(b"sound")
        ledger.add(LedgerEntry(name, "ok", sha256=hashlib.sha256(b"sound").hexdigest()))
    (tmp_path / "changed.flac").write_bytes(b"sounds")
    (tmp_path / "gone.flac").unlink()
    assert ledger.pending(["whole", "changed", "gone"], retry_failed=False) == ["changed", "gone"]


def test_second_run_in_the_same_folder_is_refused(tmp_path):
    with Ledger(tmp_path), pytest.raises(ValueError, match="another download"), Ledger(tmp_path):
        pass
    with Ledger(tmp_path):
        pass
