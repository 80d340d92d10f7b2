"""Near-duplicate sound never crosses a split."""

import shutil

import soundfile

from descant.data.audio import load_audio
from descant.data.demo import demo_dir
from descant.data.tracks import load_tracks, split_corpus


def test_the_same_sound_of_two_artists_stays_in_one_split_and_is_noted(tmp_path):
    clips = sorted((demo_dir() / "audio").iterdir())[:4]
    for number, clip in enumerate(clips):
        shutil.copy(clip, tmp_path / f"{number}.ogg")
        soundfile.write(tmp_path / f"again{number}.mp3", 0.5 * load_audio(clip)[4_000:], 16_000)
    names = [f"{number}.ogg" for number in range(4)] + [f"again{number}.mp3" for number in range(4)]
    lines = [f"{name},artist of {name},pop" for name in names] + ["bad.ogg,B,pop"]
    (tmp_path / "bad.ogg").write_bytes(b"no sound")
    (tmp_path / "songs.csv").write_text("audio,artist,genre\n" + "\n".join(lines))
    corpus = split_corpus(load_tracks(tmp_path), shares={"train": 0.5, "test": 0.5})
    split = {track.track_id: track.split for track in corpus.tracks}
    assert all(split[f"{number}"] == split[f"again{number}"] for number in range(4))
    assert set(split.values()) == {"train", "test"}
    assert corpus.notes[-4:] == [f"{n} and again{n} are the same sound and stay in one split" for n in range(4)]
    assert any(problem.startswith("bad: bad.ogg ") for problem in corpus.problems)


def test_sounds_are_not_read_where_nobody_wants_them_compared(tmp_path):
    (tmp_path / "a.ogg").write_bytes(b"no sound")
    (tmp_path / "songs.csv").write_text("audio,genre,lyrics\na.ogg,pop,la\n")
    corpus = split_corpus(load_tracks(tmp_path), compare_audio=False)
    assert corpus.problems == [] and corpus.tracks[0].split
