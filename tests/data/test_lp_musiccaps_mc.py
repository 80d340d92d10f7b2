"""Extra captions join the clips of train alone."""

import pyarrow
import pyarrow.parquet

from descant.data.lp_musiccaps_mc import CAPTIONS, read_lp_musiccaps_mc

CLIPS = {"a": (30.0, 40.0), "b": (0.0, 10.0)}
SPLITS = {"[a]-[30-40]": "train", "[b]-[0-10]": "test"}


def record(ytid: str, **changes: str) -> dict[str, str]:
    return {"fname": "x", "ytid": ytid} | {name: f"{name} of {ytid}" for name in CAPTIONS} | changes


def test_four_captions_of_each_training_clip_and_none_of_a_test_clip(tmp_path):
    path = tmp_path / "train.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([record("a"), record("b")]), path)
    found = read_lp_musiccaps_mc([path], CLIPS, SPLITS)
    assert [row.source for row in found.rows] == [
        "lp_musiccaps_mc_writing", "lp_musiccaps_mc_summary", "lp_musiccaps_mc_paraphrase",
        "lp_musiccaps_mc_attribute_prediction",
    ]  # fmt: skip
    assert {(row.clip_id, row.split, row.question) for row in found.rows} == {("[a]-[30-40]", "train", None)}
    assert found.problems == []


def test_unknown_clip_and_empty_caption_are_named(tmp_path):
    path = tmp_path / "train.parquet"
    rows = [record("nobody"), record("a", caption_summary=" ")]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    found = read_lp_musiccaps_mc([path], CLIPS, SPLITS)
    assert len(found.rows) == 3
    reasons = [(problem.row, problem.reason.split()[0]) for problem in found.problems]
    assert reasons == [(1, "has"), (2, "caption_summary")]
