"""The demo corpus is made again from its seeds: facts and MIDI byte for byte, audio when decoded."""

import ctypes.util
import io
import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from descant.data.demo import demo_dir, facts

SCRIPT = "make_demo_corpus"
MMA_VERSION = "21.09"
SAMPLE = (180, 250, 495, 565, 635)  # clips of every split, of both soundfonts and of several line-ups


@pytest.fixture(scope="module")
def plans(script):
    return script.plan_corpus()


@pytest.fixture(scope="module")
def made(script, plans):
    """The sample, made again: (clip id, MIDI hash, Ogg bytes) each."""
    from demo_corpus.sounds import SOUNDFONTS

    missing = [] if mma_version() == MMA_VERSION else [f"mma {MMA_VERSION}"]
    missing += [] if ctypes.util.find_library("fluidsynth") else ["libfluidsynth"]
    missing += [path.name for path in SOUNDFONTS.values() if not path.is_file()]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    return [script.make_clip(plan) for plan in map(plans.__getitem__, SAMPLE)]


def mma_version() -> str | None:
    if shutil.which("mma") is None:
        return None
    return subprocess.run(["mma", "-v"], capture_output=True, text=True, check=False).stdout.split()[-1]


def test_tables_come_out_byte_for_byte(script, plans, tmp_path):
    midi_hashes = {row["clip_id"]: row["midi_sha256"] for row in facts()}
    script.write_tables(plans, midi_hashes, tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    for table in tmp_path.iterdir():
        assert table.read_bytes() == (demo_dir() / table.name).read_bytes(), table.name


def test_artists_lyrics_and_labels_come_out_byte_for_byte(script, plans, tmp_path):
    script.write_tracks(plans, tmp_path)
    assert sorted(table.name for table in tmp_path.iterdir()) == ["demo_labels.json", "demo_tracks.csv"]
    for table in tmp_path.iterdir():
        assert table.read_bytes() == (demo_dir() / table.name).read_bytes(), table.name


def test_midi_comes_out_byte_for_byte(made):
    midi_hashes = {row["clip_id"]: row["midi_sha256"] for row in facts()}
    assert [(clip_id, midi_hash) for clip_id, midi_hash, _ in made] == [
        (clip_id, midi_hashes[clip_id]) for clip_id, _, _ in made
    ]


def test_audio_comes_out_equal_when_decoded(made):
    for clip_id, _, audio in made:
        again, _ = soundfile.read(io.BytesIO(audio), dtype="float32")
        kept, _ = soundfile.read(demo_dir() / "audio" / f"{clip_id}.ogg", dtype="float32")
        error_db = 10 * np.log10(np.mean((again - kept) ** 2) / np.mean(kept**2) + 1e-12)
        assert error_db < -40, f"{clip_id}: {error_db:.1f} dB"


def test_clips_of_an_earlier_plan_are_removed(script, tmp_path):
    from demo_corpus.corpus_files import remove_other_audio, write_audio

    write_audio(tmp_path, "[kept]-[0-10]", b"")
    write_audio(tmp_path, "[stale]-[0-10]", b"")
    remove_other_audio(tmp_path, {"[kept]-[0-10]"})
    assert [path.stem for path in (tmp_path / "audio").iterdir()] == ["[kept]-[0-10]"]


def test_midi_files_read_back_what_was_written(script):
    from demo_corpus.midi import Track, note, read_midi, write_midi

    track = Track("lead", sorted(note(0, 96, 3, 60, 100) + note(200_000, 96, 3, 72, 90)))
    empty, read = read_midi(write_midi([track], 120))
    assert empty.events == [] and read == track


def test_a_file_that_is_not_midi_is_refused(script):
    from demo_corpus.midi import read_midi

    with pytest.raises(ValueError, match="not a MIDI file"):
        read_midi(b"RIFF" + bytes(20))


@pytest.mark.parametrize(
    ("progression", "key", "names"),
    [("major-flat-seven", "D", "D C G D D C G A7"), ("minor-descent", "A", "Am G F E7 Am G F E7")],
)
def test_chords_are_spelled_in_their_key(script, progression, key, names):
    from demo_corpus.chords import spell

    assert " ".join(chord.name for chord in spell(progression, key)) == names


def test_a_tune_keeps_to_scale_chords_and_range(script):
    import random

    from demo_corpus.chords import scale, spell
    from demo_corpus.grooves import GROOVES
    from demo_corpus.melody import compose

    waltz = next(groove for groove in GROOVES if groove.metre == "3/4")
    chords, tones = spell("minor-epic", "E"), scale("E", "minor")
    events = compose(chords, tones, waltz, (60, 81), random.Random(1))
    keys = [event.message[1] for event in events if event.is_note_on]
    assert len(keys) >= 16
    assert all(60 <= key <= 81 and key % 12 in tones for key in keys)
