"""Splits share no artist and no sound, every label has its share; the same sound is known in another encoding."""

import random
import shutil
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from descant.data.audio import load_audio
from descant.data.demo import demo_dir
from descant.subgenre.artist_splits import (
    artist_names,
    bit_error_rate,
    find_duplicates,
    fingerprint_sound,
    fingerprint_sounds,
    fingerprint_waveform,
    group_tracks,
    split_by_artist,
    split_corpus,
)
from descant.subgenre.labels import Track
from descant.subgenre.reading_tracks import load_demo_tracks, load_tracks


def make(number: int, artist: str | None, genre="pop", subgenre="disco", split: str | None = None) -> Track:
    return Track(f"t{number:04}", None, "la", artist, genre, (f"{genre}---{subgenre}",), None, split, "test")


@pytest.fixture(scope="module")
def many() -> list[Track]:
    rng = random.Random(0)
    homes = {f"artist {i}": (f"g{rng.randrange(6)}", f"s{rng.randrange(3)}") for i in range(400)}
    artists = [rng.choice(list(homes)) for _ in range(2_000)]
    return [make(number, artist, *homes[artist]) for number, artist in enumerate(artists)]


def test_no_artist_stands_in_two_splits_and_each_label_has_its_share_of_each(many):
    found = split_by_artist(many, seed=3)
    splits = defaultdict(set)
    for track in found:
        splits[track.artist].add(track.split)
    assert all(len(parts) == 1 for parts in splits.values())
    totals = Counter(label for track in found for label in (track.genre, *track.subgenres))
    for split, share in {"train": 0.8, "validation": 0.1, "test": 0.1}.items():
        part = [track for track in found if track.split == split]
        assert len(part) / len(found) == pytest.approx(share, abs=0.02)
        counts = Counter(label for track in part for label in (track.genre, *track.subgenres))
        assert all(counts[label] / totals[label] == pytest.approx(share, abs=0.06) for label in totals)


def test_the_same_seed_gives_the_same_splits_and_another_seed_others(many):
    assert split_by_artist(many, 1) == split_by_artist(many, 1)
    assert split_by_artist(many, 1) != split_by_artist(many, 2)


def test_tracks_keep_all_but_their_split(many):
    assert [replace(track, split=None) for track in split_by_artist(many)] == many


def test_artists_with_one_sound_go_together_with_all_their_tracks():
    tracks = [make(n, artist) for n, artist in enumerate(["A", "A", "B", "B", "C", None])]
    groups = group_tracks(tracks, [("t0001", "t0002"), ("t0004", "t0005")])
    assert [[track.track_id for track in group] for group in groups] == [
        ["t0000", "t0001", "t0002", "t0003"], ["t0004", "t0005"],
    ]  # fmt: skip


def test_tracks_without_an_artist_are_free_of_each_other():
    assert len(group_tracks([make(n, None) for n in range(3)])) == 3


@pytest.mark.parametrize("artist", ["Ada feat. Bruno", "ADA  (ft. bruno)", "Bruno featuring Ada", "Bruno; Ada"])
def test_guests_belong_to_the_artist(artist):
    assert sorted(artist_names(artist)) == ["ada", "bruno"]


def test_a_band_belongs_to_its_leader_and_one_name_is_written_one_way():
    names = ["Ada", "Ada & The Bruns", "The Bruns and Cleo", "Earth, Wind & Fire", "Beyonc\u00e9", "Beyonce\u0301"]
    tracks = [make(number, name) for number, name in enumerate(names)]
    grouped = [sorted(track.artist for track in group) for group in group_tracks(tracks)]
    assert sorted(map(len, grouped)) == [1, 1, 2, 2]
    assert ["Ada", "Ada & The Bruns"] in grouped


def test_a_given_split_is_kept_and_draws_in_the_rest_of_the_artist():
    found = split_by_artist([make(0, "A", split="test"), make(1, "A"), make(2, "B", split="train")])
    assert [track.split for track in found] == ["test", "test", "train"]


def test_given_splits_that_part_an_artist_or_a_sound_are_refused():
    tracks = [make(0, "A", split="test"), make(1, "B", split="train")]
    with pytest.raises(ValueError, match=r"several splits: t0000 \(A\) in test, t0001 \(B\) in train"):
        split_by_artist(tracks, duplicates=[("t0000", "t0001")])


def test_shares_are_scaled_and_a_split_without_one_stays_empty(many):
    found = split_by_artist(many, shares={"train": 3, "validation": 0, "test": 1})
    counts = Counter(track.split for track in found)
    assert counts["validation"] == 0 and counts["test"] / len(found) == pytest.approx(0.25, abs=0.02)
    with pytest.raises(ValueError, match="are not shares"):
        split_by_artist(many, shares={"train": -1, "test": 2})


def test_no_tracks_give_no_splits():
    assert split_by_artist([]) == []


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


@pytest.fixture(scope="module")
def clips():
    return [track.audio for track in load_demo_tracks().tracks[:24:2]]


@pytest.fixture(scope="module")
def prints(clips):
    return {path.stem: fingerprint_sound(path) for path in clips}


def write_mp3(path, waveform):
    soundfile.write(path, waveform, 16_000, format="MP3", bitrate_mode="CONSTANT", compression_level=0.9)


def write_quiet(path, waveform):
    soundfile.write(path, 0.1 * waveform, 16_000)


def write_late(path, waveform):
    soundfile.write(path, waveform[17_777:], 16_000)


def write_other_rate(path, waveform):
    soundfile.write(path, np.repeat(waveform, 2)[:, None] @ np.ones((1, 2)), 32_000)


@pytest.mark.parametrize("write", [write_mp3, write_quiet, write_late, write_other_rate])
def test_a_sound_is_found_again(clips, prints, tmp_path, write):
    for path in clips[:2]:
        write(tmp_path / "again.wav", load_audio(path))
        found = find_duplicates(prints | {"again": fingerprint_sound(tmp_path / "again.wav")})
        assert found == [tuple(sorted((path.stem, "again")))], path.stem


def test_clips_of_one_band_and_groove_are_not_mistaken(prints):
    assert find_duplicates(prints) == []


def test_silence_resembles_nothing():
    silence = fingerprint_waveform(np.zeros(80_000, np.float32))
    assert find_duplicates({"a": silence, "b": silence, "short": fingerprint_waveform(np.zeros(100))}) == []


def test_nothing_at_all_has_no_duplicates():
    assert find_duplicates({}) == []


def test_hundreds_of_tracks_are_compared_without_comparing_each_with_each():
    rng = np.random.default_rng(0)
    many = {f"t{i:04}": rng.integers(0, 2**32, 300, dtype=np.uint32) for i in range(500)}
    wrong = np.packbits(rng.random((300, 32)) < 0.1, axis=1).view("<u4")[:, 0].astype(np.uint32)
    found = find_duplicates(many | {"again": (many["t0007"] ^ wrong)[20:]})
    assert found == [("again", "t0007")]


def test_bit_errors_are_counted_where_the_fingerprints_overlap():
    words = np.arange(10, dtype=np.uint32)
    assert bit_error_rate(words, words[3:], 3) == (0.0, 7)
    assert bit_error_rate(words[3:], words, -3) == (0.0, 7)
    assert bit_error_rate(words, ~words, 0) == (1.0, 10)
    assert bit_error_rate(words, words, 10) == (1.0, 0)


def test_a_file_that_cannot_be_read_is_named_and_the_rest_goes_on(clips, tmp_path):
    (tmp_path / "bad.mp3").write_bytes(b"no sound")
    prints, problems = fingerprint_sounds({"good": clips[0], "bad": tmp_path / "bad.mp3"})
    assert list(prints) == ["good"]
    assert len(problems) == 1 and problems[0].startswith("bad: bad.mp3 ")
