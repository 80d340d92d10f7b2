"""A run fetches every clip that can be had, accounts for the rest, and goes on after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import soundfile
from audio_server import AudioServer, encode, music

from descant.data.annotations import Row, make_clip_id
from descant.data.download import DownloadSettings, Ledger, download_clips

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


KILLED_RUN = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_download_run import rows, DownloadSettings, download_clips
settings = DownloadSettings(sleep_s=0, retry_wait_s=0, url_template={template!r})
download_clips(rows(*{names!r}), {folder!r}, settings, progress=False)
"""


def test_killed_runs_lose_no_clip_and_leave_no_half_one(server, tmp_path):
    names = [f"clip{i}" for i in range(12)]
    server.files |= dict.fromkeys(names, SONG)
    run(server, tmp_path / "whole", *names)
    folder = tmp_path / "killed"
    code = KILLED_RUN.format(
        tests=str(Path(__file__).parent), template=server.template, names=names, folder=str(folder)
    )
    for wanted in (2, 6):
        process = subprocess.Popen([sys.executable, "-c", code])
        deadline = time.monotonic() + 60
        while len(list(folder.glob("*.flac"))) < wanted and time.monotonic() < deadline:
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
