"""The scale run in small: kills on the way of a build change nothing of its end."""

import pytest
import scale_datasets


@pytest.mark.full
def test_killed_build_ends_as_an_undisturbed_one(tmp_path, shared_dir):
    rows = scale_datasets.read_rows(shared_dir / "data/musiccaps/musiccaps-public.csv", 60)
    table = scale_datasets.write_table(tmp_path / "musiccaps.csv", rows)
    scale_datasets.write_sounds(tmp_path / "clips", rows)
    assert scale_datasets.measure_build(tmp_path, table, len(rows), kills=2)["equal_manifest"]
