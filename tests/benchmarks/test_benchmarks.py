"""The benchmarks run, and what does not depend on the machine holds: equal results, small errors and sizes."""

import re
import shutil
import subprocess
from pathlib import Path

import bench_box_speed
import bench_evidence
import bench_features
import bench_mert_lm
import bench_musicnn
import bench_report
import bench_scale
import bench_search
import bench_serve
import collection_demo
import compare_tokens
import numpy as np
import pytest
import scale_datasets
from bench_decisions import area_under_roc, make_sounds, measure_time, paired_interval
from browser_page import Page
from plain_musicnn import small_model
from tiny import save_tiny_decider, save_tiny_model

from descant.answering.model_folder import load_model
from descant.collections.report import render_page, show_answers
from descant.data.audio import AudioError, load_audio
from descant.data.demo.corpus import facts
from descant.data.sources import list_sound_files


def test_stored_features_are_exact_and_small(tmp_path: Path) -> None:
    result = bench_features.measure(tmp_path, clips=2, reads=2_000)
    assert result["largest_error_db"] < 0.005 and result["bytes_per_clip"] <= 260_000
    assert result["read_clips_per_s"] > 0 and result["extract_flac_x_realtime"] > 0


def test_a_mert_lm_gives_the_same_tokens_both_ways() -> None:
    result = bench_mert_lm.measure(*bench_mert_lm.tiny_model(), clips=2, sample=4, turns=2, max_new_tokens=6)
    assert result["differing"] == [] and len(result["ratios"]) == 2
    assert "0 sampled answers differ" in bench_mert_lm.format_result(result)


def test_musicnn_hears_the_same_both_ways() -> None:
    result = bench_musicnn.measure(small_model(), patches=2, turns=3)
    assert result["difference"] < 1e-4
    assert [len(seconds) for seconds in result["seconds"].values()] == [3, 3]
    assert "× real time" in bench_musicnn.format_result(result)


def test_the_load_of_a_server_is_summed_up() -> None:
    load = bench_serve.Load([1.0, 2.0, 3.0], memory=[(0.0, 90.0), (1.0, 99.0), (2.0, 101.0)], processor_s=6.0)
    load.statuses.update([200, 200, 429])
    load.differing.append(("It is jazz.", "It is rock."))
    text = bench_serve.format_load(load, 2.0)
    assert "3 requests in 2 s, 1.5 a second" in text and "p50 2.00" in text and "2.000 s a request" in text
    assert "99 MB after a quarter of the time, 101 MB at the end" in text and "'It is jazz.' → 'It is rock.'" in text


def test_songs_of_three_formats_are_made_by_a_seed(tmp_path: Path) -> None:
    paths = bench_box_speed.write_songs(tmp_path, 4, seconds=2)
    assert [path.suffix for path in paths] == [".wav", ".mp3", ".flac", ".wav"]
    assert all(abs(len(load_audio(path)) - 32_000) < 2_000 for path in paths)
    assert paths[0].read_bytes() != paths[3].read_bytes()


def test_what_processes_take_is_paired_by_turn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    taken = {"ask": 5.0, "PreTrainedModel": 3.0}
    codes: list[str] = []

    def run(code: list[str], threads: int) -> bench_box_speed.Spent:
        codes.append(" ".join(code))
        seconds = next((taken[name] for name in taken if name in codes[-1]), 1.0) * len(codes)
        return bench_box_speed.Spent(2 * seconds, seconds)

    monkeypatch.setattr(bench_box_speed, "run", run)
    result = bench_box_speed.measure_cold(tmp_path / "song.wav", turns=3, threads=1)
    assert len(codes) == 9 and codes[2].endswith("-q Which instruments are heard?")
    assert result["ask"]["cpu"] == [30.0, 15.0, 45.0] and result["bare import"]["wall"] == [8.0, 2.0, 14.0]
    assert result["ask over bare import"]["cpu"] == [26.0, 14.0, 38.0]
    assert "ask over with PreTrainedModel" in bench_box_speed.format_result(result)


def test_a_process_that_fails_is_no_measurement() -> None:
    assert bench_box_speed.run(["import os; assert os.environ['OMP_NUM_THREADS'] == '3'"], 3).cpu > 0
    with pytest.raises(RuntimeError, match="no such song"):
        bench_box_speed.run(["raise SystemExit('no such song')"], 1)


@pytest.mark.full
def test_a_killed_build_ends_as_an_undisturbed_one(tmp_path: Path, shared_dir: Path) -> None:
    rows = scale_datasets.read_rows(shared_dir / "data/musiccaps/musiccaps-public.csv", 60)
    table = scale_datasets.write_table(tmp_path / "musiccaps.csv", rows)
    scale_datasets.write_sounds(tmp_path / "clips", rows)
    assert scale_datasets.measure_build(tmp_path, table, len(rows), kills=2)["equal_manifest"]


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(save_tiny_model(tmp_path / "model"))


def test_all_settings_of_generate_are_compared(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare_tokens.main([folder, "--max_clips", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == list(compare_tokens.SETTINGS)
    assert all(": 0 of 22 answers differ" in line for line in lines)


def test_tokens_that_differ_are_reported(
    folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_tokens, "SETTINGS", {"greedy": {}})
    monkeypatch.setattr(compare_tokens, "answer_twice", lambda *_: [([2, 5], [2, 5]), ([2, 5], [2, 6])])
    assert compare_tokens.main([folder, "--max_clips", "1"]) == 1
    assert "greedy: 1 of 2 answers differ [1]" in capsys.readouterr().out


def test_search_is_better_than_plain_words_and_far_better_than_chance() -> None:
    result = bench_search.measure_quality(bench_search.describe_corpus(facts()))
    assert (result["queries"], result["denials"]) == (60, 30)
    for measure in ("average_precision", "recall_at_10"):
        scores = result[measure]
        assert scores["search - bm25"]["interval"][0] > 0
        assert scores["search"]["mean"] > 3 * scores["random"]["mean"]


def test_an_index_of_made_up_songs_is_small() -> None:
    result = bench_search.measure_speed(300, turns=2)
    assert result["bytes_a_song"] <= 6_000 and result["milliseconds"].keys() == {"words", "words and where", "like"}


def test_scores_by_hand() -> None:
    right = frozenset({"a", "c"})
    assert bench_search.average_precision(["a", "b", "c"], right) == pytest.approx((1 + 2 / 3) / 2)
    assert bench_search.recall_at_10(["b"] * 10 + ["a"], right) == 0


def test_gains_of_models_are_paired_by_clip() -> None:
    gains = {str(number): float(number % 2) for number in range(100)}
    low, high = paired_interval([gains])
    assert 0.35 < low < 0.45 and 0.55 < high < 0.65
    opposite = {clip: 1 - gain for clip, gain in gains.items()}  # the same mean for every clip: nothing varies
    assert paired_interval([gains, opposite]) == (0.5, 0.5)


def test_the_area_is_how_often_a_positive_lies_above_a_negative() -> None:
    assert area_under_roc(np.array([3.0, 1.0]), np.array([0.0, 2.0])) == 0.75
    assert area_under_roc(np.array([1.0]), np.array([1.0])) == 0.5


def test_the_sounds_are_not_silent_and_do_not_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench_decisions.SOUNDS", 3)
    monkeypatch.setattr("bench_decisions.shutil.which", lambda name: None)
    sounds = make_sounds(np.random.default_rng(0))
    assert set(sounds) == {"white noise", "pink noise", "tones"}
    for waves in sounds.values():
        assert all(1e-3 < np.sqrt(np.mean(wave**2)) <= 1 and len(wave) == 160_000 for wave in waves)


def test_time_is_measured_in_turns(tmp_path) -> None:
    model, processor = load_model(save_tiny_decider(tmp_path))
    rate = processor.feature_extractor.sampling_rate
    wave = np.random.default_rng(0).normal(size=rate).astype(np.float32)
    features = processor(audio=[wave], sampling_rate=rate, return_tensors="pt")["input_features"][0]
    found = measure_time(model, processor, model.decision_config, features, runs=1)
    assert {"generated", "1 wordings", "3 wordings", "3 wordings / generated"} <= set(found)


def test_one_file_in_ten_is_bad_and_all_formats_can_be_heard(tmp_path: Path) -> None:
    assert collection_demo.make_folder(tmp_path, 10) == {"good": 9, "bad": 1}
    songs = list_sound_files(tmp_path)
    assert len(songs.files) == 10 and [path.name for path in songs.left_out] == ["cover.jpg"]
    for kind in collection_demo.GOOD:
        (first, *_) = (path for path in songs.files if path.name.startswith("[") and path.suffix == f".{kind}")
        assert len(load_audio(first)) > 100_000


@pytest.mark.parametrize("name", collection_demo.BAD)
def test_a_bad_file_cannot_be_heard(name: str, tmp_path: Path) -> None:
    collection_demo.BAD[name](tmp_path / name)
    with pytest.raises(AudioError):
        load_audio(tmp_path / name)


def test_what_a_track_costs_is_measured_on_tracks_that_sound(tmp_path: Path) -> None:
    bench_scale.make_track(tmp_path / "track.mp3", 12, seed=0)
    assert 12 * 16_000 <= len(load_audio(tmp_path / "track.mp3")) <= 12.2 * 16_000
    spent, _ = bench_scale.spend(bench_scale.read, [tmp_path / "track.mp3"])
    assert spent[0] > 0
    found = bench_scale.measure_engine(tmp_path, 3, bench_scale.OneProcess())
    assert found["songs"] == 3 and found["log_bytes_a_song"] > 5_000 and (tmp_path / "d.parquet").exists()


HACK = "document.documentElement.dataset.hacked = 1"
EVIL = f"</script><script>{HACK}</script><img src=x onerror='{HACK}'>"


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_shows_what_users_gave_and_runs_none_of_it(tmp_path: Path) -> None:
    tracks = [show_answers(EVIL, [{"question": EVIL, "prediction": EVIL, "references": [EVIL]}])]
    (tmp_path / "report.html").write_text(render_page(EVIL, tracks), encoding="utf-8")
    page = Page()
    try:
        page.open_address((tmp_path / "report.html").as_uri())
        page.wait_for("document.querySelector('article table td') !== null")  # cards are filled in sight
        page.settle()
        shown = page.run("document.documentElement.outerHTML")
    finally:
        page.close()
    assert "data-hacked" not in shown and "<img" not in shown.partition("<main")[2].partition("</main>")[0]
    assert shown.count("&lt;/script&gt;&lt;script&gt;") >= 4  # title, heading, name, and the answer with its reference
    many = bench_report.write_page(tmp_path / "many", 12)
    found = bench_report.measure_page(many, "chromium", turns=1)
    assert found["page"][0]["articles"] == 12 and found["page"][0]["script_ms"] > 0 and found["empty"][0]["usable_ms"]
    assert (tmp_path / "many" / "pictures").is_dir()


@pytest.mark.reliability
def test_a_collection_goes_through_two_kills_tags_and_search(tmp_path: Path) -> None:
    model = save_tiny_decider(tmp_path / "model")
    assert collection_demo.make_folder(tmp_path / "music", 40)["good"] == 36
    result = collection_demo.run_all(tmp_path / "music", str(model), tmp_path / "out")  # ends the test where it fails
    assert result["described"]["failed"] == 4 and result["described"]["known"] >= 18
    assert result["sound_after_tags"] and result["sound_after_undo"] and "36 tracks" in result["report"]


ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "benchmarks" / "on_gpu.sh"
TEXT = SCRIPT.read_text(encoding="utf-8")


def test_the_script_is_valid_bash() -> None:
    checked = subprocess.run(["bash", "-n", str(SCRIPT)], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_limits_of_all_parts_on_a_gpu_are_nine_minutes_at_most() -> None:
    on_gpu = TEXT.split("if [ $device = cuda ]; then")[1].split("\nelse\n")[0]
    limits = [int(limit) for limit in re.findall(r"^ +part \w+ (\d+)", on_gpu, flags=re.MULTILINE)]
    last = re.findall(r"^    part zero2 (\d+)", TEXT, flags=re.MULTILINE)
    assert len(limits) == 5 and sum(limits) + int(last[0]) <= 540


def test_the_programs_that_it_runs_are_there() -> None:
    named = re.findall(r"\b((?:tests|recipes|accelerate_configs)/[\w/]+\.(?:py|yaml))", TEXT)
    assert len(set(named)) >= 6 and all((ROOT / name).is_file() for name in named)


def test_clips_with_a_part_of_another_are_made_and_what_evidence_gains_is_summed_up() -> None:
    one, other = (row for row in facts()[:2])
    mix = bench_evidence.make_mix(one, other, start_s=3, rate=1_000)
    whole = bench_evidence.make_mix(one, one, start_s=3, rate=1_000)
    changed = np.flatnonzero(np.abs(mix.samples - whole.samples) > 1e-4) / 1_000
    assert changed.min() > 2.9 and changed.max() < 7.1 and len(changed) > 3_000 and mix.part["genre"] == other["genre"]
    quiet = bench_evidence.silence(np.ones(10_000), [bench_evidence.Span(2.0, 3.0, 0.0)], 1_000)
    assert quiet[2_500] == pytest.approx(0) and quiet[1_900] == quiet[3_100] == 1
    found = bench_evidence.Found([0, 0, 1], [0.3, 0.2, -0.1], [[0.1, 0.1], [0.0, 0.2], [0.0, 0.0]],
                                 pointed=[0, 1], hits=[1.0, 0.0], chances=[0.4, 0.6])  # fmt: skip
    summed = bench_evidence.summarise(found)
    assert summed["fall"]["more"] == 0.0667 and summed["change"]["shown"] == 0.2
    assert (summed["pointed right"], summed["chance"]) == (0.5, 0.5)
