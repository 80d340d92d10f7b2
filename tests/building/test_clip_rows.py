"""The arguments that the dataset scripts share, and what the published card gives away of them."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from descant.building import clip_rows
from descant.building.clip_rows import Build, ClipRowsBuilder, _describe, _find_missing, build_parser
from descant.data.annotations import Annotations, Problem, Row, make_clip_id
from descant.data.features import FeatureStore


class Songs(ClipRowsBuilder):
    """Songs of
    all kinds."""

    DEFAULT_ANNOTATIONS = "tester/songs"
    LICENCE = "mit"


def parse(*arguments: str):
    parser = build_parser("Builds songs.", ["short", "long"], "tester/songs")
    return parser.parse_args([*arguments, "--output", "/x/out"])


def test_first_configuration_is_the_default_and_several_can_be_built():
    assert parse().dataset_config == ["short"]
    assert parse("--dataset_config", "short", "long").dataset_config == ["short", "long"]


def test_card_names_the_command_without_the_folders_of_this_machine():
    args = parse("--annotations", "/home/me/songs.csv", "--audio_dir", "/data/secret/clips")
    facts = _describe(Build("Songs", "songs.py", Songs, ["tester/songs"]), args, {}, "rev")
    options = "--dataset_config short --annotations songs.csv --audio_dir clips --seed 0 --output out"
    assert facts.command == f"python datasets_scripts/songs.py {options}"
    assert facts.description == "Songs of all kinds." and facts.licence == "mit"


def test_the_command_on_a_card_names_all_that_decides_the_rows():
    args = parse("--annotations", "tester/songs", "--hub_audio", "tester/sound", "--include_features")
    own = {"more": "/home/me/more songs", "none": None}
    facts = _describe(Build("Songs", "songs.py", Songs, []), args, own, "rev")
    options = "--annotations tester/songs --more 'more songs' --hub_audio tester/sound --seed 0 --output out"
    assert facts.command.endswith(f" --dataset_config short {options} --include_features")


def test_reason_of_a_missing_clip_comes_from_ledger_or_extraction(tmp_path: Path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/ledger.jsonl").write_text('{"clip_id": "gone", "status": "geo"}\n')
    store = FeatureStore(tmp_path / "features", {"feature_shape": [2, 3]})
    store.folder.mkdir(parents=True)
    (store.folder / "skipped.jsonl").write_text('{"clip_id": "bad", "reason": "a.wav: is empty"}\n')
    missing = _find_missing(parse("--audio_dir", str(tmp_path / "clips")), store, ["gone", "bad", "nowhere"])
    assert missing == {"gone": "geo", "bad": "unreadable: a.wav: is empty", "nowhere": "no sound found"}


class SongRows(ClipRowsBuilder):
    """As many captions as the annotation file says."""

    DEFAULT_ANNOTATIONS = "tester/songs"
    LICENCE = "mit"

    def read(self) -> Annotations:
        problem = Problem("songs.txt", 3, None, "is bad")
        return Annotations([row(i) for i in range(int(Path(self.annotations).read_text()))], [problem])


def row(number: int) -> Row:
    clip_id, split = make_clip_id(f"s{number}", 0, 10), "test" if number % 3 == 0 else "train"
    return Row(clip_id, None, f"song {number}", None, "songs", 0, 10, split)


@pytest.fixture
def songs(tmp_path):
    (tmp_path / "songs.txt").write_text("90")

    def make(**options) -> SongRows:
        return SongRows(annotations=tmp_path / "songs.txt", cache_dir=tmp_path / "cache", **options)

    return make


def store_of(tmp_path: Path, numbers, same: bool = False) -> FeatureStore:
    store = FeatureStore(tmp_path / "features", {"feature_shape": [2, 3]})
    for number in numbers:
        values = np.array([[number, 1, 0], [0, 0, 0]], np.float32) * (not same)
        store.write(row(number).clip_id, values, "audio")
    return store


def test_every_row_lands_once_in_its_split(songs):
    builder = songs()
    builder.download_and_prepare(num_proc=2)
    splits = builder.as_dataset()
    assert len(splits["test"]) == 30
    answers = [answer for part in splits.values() for answer in part["answer"]]
    assert sorted(answers) == sorted(f"song {i}" for i in range(90))


def test_store_or_its_folder_limits_the_rows_to_what_can_be_heard(songs, tmp_path):
    store = store_of(tmp_path, range(30))
    for given in (store, store.folder):
        rows = [row for part in songs(feature_store=given).split_rows().values() for row in part]
        assert {row.clip_id for row in rows} == set(store.keys())


def test_store_without_any_of_the_clips_is_refused(songs, tmp_path):
    with pytest.raises(ValueError, match="holds no clip"):
        songs(feature_store=store_of(tmp_path, [200])).split_rows()


def test_same_sound_in_two_splits_is_refused(songs, tmp_path):
    with pytest.raises(ValueError, match="the same sound"):
        songs(feature_store=store_of(tmp_path, [0, 1], same=True)).split_rows()


def test_seed_store_and_content_each_name_another_cache(songs, tmp_path):
    hashes = {songs().hash, songs(seed=1).hash, songs(feature_store=store_of(tmp_path, [1])).hash}
    (tmp_path / "songs.txt").write_text("91")
    assert len(hashes | {songs().hash}) == 4


def test_code_that_reads_rows_otherwise_names_another_cache(songs, tmp_path, monkeypatch):
    code = tmp_path / "reader.py"
    monkeypatch.setitem(sys.modules, "reader", SimpleNamespace(__file__=str(code)))
    monkeypatch.setattr(clip_rows, "READERS", ("reader",))
    hashes = set()
    for text in ("", "a = 1", "a = 2"):
        code.write_text(text)
        hashes.add(songs().hash)
    assert len(hashes) == 3


def test_bad_records_are_logged(songs, caplog):
    songs().split_rows()
    assert "skipped songs.txt:3: is bad" in caplog.text


def test_split_that_is_empty_is_left_out(songs, tmp_path):
    (tmp_path / "songs.txt").write_text("1")
    builder = songs()
    builder.download_and_prepare()
    assert list(builder.as_dataset()) == ["test"]
