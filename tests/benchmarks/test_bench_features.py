"""The feature benchmark runs, and what does not depend on the machine holds."""

from bench_features import measure


def test_store_is_exact_small_and_quicker_to_read_than_the_reference(tmp_path):
    result = measure(tmp_path, clips=2, reads=2_000)
    assert result["largest_error_db"] < 0.005 and result["bytes_per_clip"] <= 260_000
    assert result["read_clips_per_s"] > 5 * result["reference_read_clips_per_s"]
    assert result["extract_flac_x_realtime"] > result["reference_prepare_x_realtime"] / 2
