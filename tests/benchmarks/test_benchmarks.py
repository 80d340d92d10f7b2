"""The smaller benchmarks run, and what does not depend on the machine holds: equal results, small errors and sizes."""

from pathlib import Path

import bench_features
import bench_mert_lm
import bench_musicnn
import compare_tokens
import pytest
import scale_datasets
from plain_musicnn import small_model
from tiny import save_tiny_model


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
