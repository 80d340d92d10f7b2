"""The arguments that the dataset scripts share, and what the published card gives away of them."""

from pathlib import Path

from descant.commands.build_dataset import Build, _describe, _find_missing, build_parser
from descant.data.builder import ClipRowsBuilder
from descant.data.feature_store import FeatureStore


class Songs(ClipRowsBuilder):
    """Songs of
    all kinds."""

    DEFAULT_ANNOTATIONS = "tester/songs"
    LICENCE = "mit"


def parse(*arguments: str):
    parser = build_parser("Builds songs.", ["short", "long"], "tester/songs")
    return parser.parse_args([*arguments, "--output", "/x/out"])


def test_first_configuration_is_the_default_and_several_can_be_built():
    assert parse().config == ["short"]
    assert parse("--config", "short", "long").config == ["short", "long"]


def test_card_names_the_command_without_the_folders_of_this_machine():
    args = parse("--annotations", "/home/me/songs.csv", "--audio_dir", "/data/secret/clips")
    facts = _describe(Build("Songs", "songs.py", Songs, ["tester/songs"]), args, "rev")
    options = "--config short --annotations songs.csv --audio_dir clips --seed 0 --output out"
    assert facts.command == f"python datasets_scripts/songs.py {options}"
    assert facts.description == "Songs of all kinds." and facts.licence == "mit"


def test_reason_of_a_missing_clip_comes_from_ledger_or_extraction(tmp_path: Path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/ledger.jsonl").write_text('{"clip_id": "gone", "status": "geo"}\n')
    store = FeatureStore(tmp_path / "features", {"feature_shape": [2, 3]})
    store.folder.mkdir(parents=True)
    (store.folder / "skipped.jsonl").write_text('{"clip_id": "bad", "reason": "a.wav: is empty"}\n')
    missing = _find_missing(parse("--audio_dir", str(tmp_path / "clips")), store, ["gone", "bad", "nowhere"])
    assert missing == {"gone": "geo", "bad": "unreadable: a.wav: is empty", "nowhere": "no sound found"}
