"""Everything that annotations and sound files can have wrong, at once: named, skipped, and nothing else is touched."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from annotation_files import COLUMNS, write_clips

from descant.data.features import FeatureStore

RATE = 16_000
GOOD = {"clip0000", "clip0001", "hour", "rate192k", "channels8"}
BAD_SOUND = {"empty", "silent", "nan", "playlist", "text", "truncated"}
BAD_RECORDS = {
    "../../evil,30,40": "not a YouTube id",
    "$(touch evil),30,40": "not a YouTube id",
    "a;touch evil,30,40": "not a YouTube id",
    "-rf /,30,40": "not a YouTube id",
    "backwards,40,30": "does not come after",
    "clip0000,30,40": "the same clip stands in row 2",
}


def line(start: str, caption: str = "a song") -> str:
    return f"{start},/m/1,['pop'],{caption},4,False,False\n"


def write_bad_sounds(folder: Path) -> None:
    def sound(name: str, samples: np.ndarray, rate: int = RATE, **form: str) -> None:
        soundfile.write(folder / f"[{name}]-[30-40].wav", samples, rate, **form)

    noise = 0.1 * np.random.default_rng(0).normal(size=(10 * RATE, 8))
    (folder / "[empty]-[30-40].wav").touch()
    (folder / "[text]-[30-40].wav").write_text("this is no sound")
    (folder / "[playlist]-[30-40].mp3").write_text("#EXTM3U\n#EXTINF:10,\n/etc/hostname\n")
    sound("silent", np.zeros(RATE))
    sound("nan", np.full(RATE, np.nan), subtype="FLOAT")
    sound("channels8", noise)
    sound("rate192k", noise[:, 0], rate=192_000)
    sound("truncated", noise[:, 1])
    path = folder / "[truncated]-[30-40].wav"
    path.write_bytes(path.read_bytes()[: 5 * RATE])
    with soundfile.SoundFile(folder / "[hour]-[30-40].wav", "w", RATE, 1, "PCM_U8") as file:
        minute = 0.1 * np.random.default_rng(1).normal(size=60 * RATE)
        for _ in range(60):
            file.write(minute)


@pytest.fixture
def musiccaps(scripts):
    import musiccaps

    return musiccaps


def test_each_fault_is_named_and_only_its_own_clip_is_lost(musiccaps, tmp_path, capsys, monkeypatch):
    work = tmp_path / "work"
    (work / "deep").mkdir(parents=True)
    write_bad_sounds(write_clips(work / "deep/clips", range(2)))
    names = ["clip0000", "clip0001", *sorted(GOOD - {"clip0000", "clip0001"}), *sorted(BAD_SOUND)]
    text = COLUMNS + "".join(line(f"{name},30,40") for name in names)
    text += "".join(map(line, BAD_RECORDS)) + line("nothing,30,40", caption=" ")
    (work / "caps.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    monkeypatch.chdir(work)
    before = listing(tmp_path)
    options = ["--annotations", "caps.csv", "--audio_dir", "deep/clips", "--output", "out", "--features", "features"]
    assert musiccaps.main(options) == 1
    said = capsys.readouterr().err
    first_bad = 2 + len(names)
    for number, reason in enumerate([*BAD_RECORDS.values(), "caption is empty"], start=first_bad):
        assert any(f"caps.csv:{number}:" in told and reason in told for told in said.splitlines()), (number, reason)
    store = FeatureStore.open(next((work / "features").glob("*")))
    assert set(store.keys()) == {f"[{name}]-[30-40]" for name in GOOD}
    missing = (work / "out/missing_clips.jsonl").read_text()
    assert all(f"[{name}]-[30-40]" in missing for name in BAD_SOUND) and missing.count("\n") == len(BAD_SOUND)
    new = {path.relative_to(work).parts[0] for path in listing(tmp_path) - before if path.is_relative_to(work)}
    assert new == {"out", "features"}
    assert not [path for path in listing(tmp_path) if "evil" in path.name]


def listing(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_cut_and_latin_lines_are_named(musiccaps, tmp_path, capsys):
    text = COLUMNS + line("clip0000,30,40") + line("cut,30,40")[:20] + "\n"
    (tmp_path / "caps.csv").write_bytes(text.encode() + line("latin,30,40", "caf\xe9").encode("latin-1"))
    options = ["--annotations", str(tmp_path / "caps.csv"), "--output", str(tmp_path / "out")]
    assert musiccaps.main([*options, "--features", str(tmp_path / "features")]) == 1
    said = capsys.readouterr().err
    assert "caps.csv:3: has 5 fields" in said and "caps.csv:4: not UTF-8" in said


def test_header_without_captions_is_refused(musiccaps, tmp_path, capsys):
    (tmp_path / "caps.csv").write_text("ytid,start_s,end_s,is_audioset_eval\na,1,2,True\n")
    options = ["--annotations", str(tmp_path / "caps.csv"), "--output", str(tmp_path / "out")]
    assert musiccaps.main(options) == 2
    assert "caps.csv:1: missing column caption" in capsys.readouterr().err and not (tmp_path / "out").exists()
