"""Descriptions of whole tracks: they keep the schema, say what was asked, and nothing about what is not music."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny import save_tiny_decider, write_song

from descant.answering import description
from descant.answering.description import (
    Describer,
    description_questions,
    format_description,
    mark_caption,
    mark_sound,
    measure,
    read_schema,
)
from descant.answering.listener import Listener

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture(scope="module")
def describer(tmp_path_factory: pytest.TempPathFactory) -> Describer:
    return Describer(Listener.load(str(save_tiny_decider(tmp_path_factory.mktemp("decider")))))


@pytest.fixture(autouse=True)
def without_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(description, "measure", lambda path: None)


def test_a_description_keeps_the_schema_and_says_what_was_asked(describer: Describer, tmp_path: Path) -> None:
    found = describer.describe(write_song(tmp_path / "song.wav", 22.0))
    jsonschema.validate(found, read_schema())
    genre = found["decisions"]["genre"]
    assert genre["question"] == "What is the genre?" and genre["heard"] == [[0.0, 22.0]]
    assert [one["option"] for one in genre["top"]] == sorted(
        genre["probabilities"], key=genre["probabilities"].get, reverse=True
    )
    assert found["decisions"]["instruments"]["drums"]["noul"] > 0 and found["caption"]["of"] == 3
    assert found["decisions"]["mood"]["reason"] == "unlike training"
    found["decisions"]["genre"]["sure"] = "yes"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found, read_schema())


@pytest.mark.parametrize(("level", "said"), [(0.0, "silence"), (0.1, "no music")])
def test_about_what_is_not_music_nothing_is_invented(
    describer: Describer, tmp_path: Path, level: float, said: str
) -> None:
    noise = level * np.random.default_rng(0).normal(size=160_000)
    soundfile.write(tmp_path / "noise.wav", noise, 16_000)
    found = describer.describe(tmp_path / "noise.wav")
    jsonschema.validate(found, read_schema())
    assert found["caption"] is None and found["decisions"]["genre"]["reason"] == said
    lines = list(format_description(found))
    assert len(lines) == 2 and "no music heard" in lines[1]


def test_a_caption_that_contradicts_decisions_is_named_on_both_sides() -> None:
    def genre(best: str) -> dict:
        return {"type": "choice", "choice": best, "probabilities": {best: 0.9}, "sure": True}

    answers = {
        "genre": genre("hip-hop"), "tempo_class": genre("slow"),
        "instruments.drums": {"type": "noul", "noul": 0.9}, "instruments.piano": {"type": "noul", "noul": 0.1},
        "vocals": {"type": "noul", "noul": 0.1, "reason": "unlike training"},
    }  # fmt: skip
    text = "It is jazz music. Piano and vocals are heard, no drums. The tempo is slow."
    against = ["genre", "instruments.drums", "instruments.piano"]
    assert mark_caption(text, answers) == against
    assert all(answers[name]["contradicts"] == ["caption"] for name in against)
    assert mark_caption("Hip hop with a kick drum. Fast.", answers) == ["tempo_class"]
    assert mark_caption("A song.", answers) == []
    assert mark_caption("There is no music to speak of.", answers) == ["genre"]
    answers["voice"] = {"type": "choice", "probabilities": {"no voice": 0.6, "female": 0.3, "male": 0.1}, "sure": True}
    answers["vocals"] = {"type": "noul", "noul": 0.9, "sure": True}
    assert mark_caption("This is a song. The singer is a woman.", answers) == ["voice"]
    assert mark_caption("This is an instrumental.", answers) == ["vocals"]
    answers["voice"]["probabilities"] = {"male": 0.8, "female": 0.2}
    assert mark_caption("A woman sings.", answers) == ["voice"] and mark_caption("A man sings.", answers) == []


@pytest.mark.parametrize(("genre", "sound", "unsure"), [
    ({"electronic": 0.6, "rock": 0.4}, {"acoustic": 0.9, "electronic": 0.1}, "genre"),
    ({"electronic": 0.9, "rock": 0.1}, {"acoustic": 0.6, "electronic": 0.4}, "electronic"),
    ({"electronic": 0.6, "rock": 0.4}, {"acoustic": 0.1, "electronic": 0.9}, None),
    ({"electronic": 0.4, "rock": 0.6}, {"acoustic": 0.9, "electronic": 0.1}, None),
])  # fmt: skip
def test_electronic_music_does_not_sound_acoustic(
    genre: dict[str, float], sound: dict[str, float], unsure: str | None
) -> None:
    found = {"genre": genre, "electronic": sound}
    answers = {name: {"type": "choice", "probabilities": one, "sure": True} for name, one in found.items()}
    mark_sound(answers)
    assert [name for name, answer in answers.items() if not answer["sure"]] == ([unsure] if unsure else [])
    assert {name for name, answer in answers.items() if "contradicts" in answer} == ({*answers} if unsure else set())


def test_contradictions_are_shown(describer: Describer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caption = {"text": "It is rock music. A grand piano.", "heard": [[0.0, 12.0]], "windows": 2, "of": 2}
    monkeypatch.setattr(describer, "_caption", lambda path, track: dict(caption))
    monkeypatch.setattr(description, "state", lambda answer: ("jazz", 0.5))
    found = describer.describe(write_song(tmp_path / "song.wav", 12.0))
    jsonschema.validate(found, read_schema())
    assert found["caption"]["contradicts"] == ["genre"] and found["decisions"]["genre"]["contradicts"] == ["caption"]
    lines = list(format_description(found))
    assert lines[1].endswith("A grand piano. (contradicts genre)") and "(contradicts caption)" in lines[2]


def test_the_options_are_those_of_the_training(describer: Describer) -> None:
    questions = description_questions(describer.listener.model.decision_config)
    assert list(questions["genre"]["criteria"]) == ["jazz", "rock", "piano"]
    assert "rock" in questions["mood"]["criteria"] or "happy" in questions["mood"]["criteria"]
    assert questions["instruments.drums"]["instructions"] == "Are there drums?"
    assert questions["instruments.electric guitar"]["instructions"] == "Is there an electric guitar?"


def test_the_lines_name_what_the_model_was_not_trained_on(describer: Describer, tmp_path: Path) -> None:
    lines = list(format_description(describer.describe(write_song(tmp_path / "song.wav", 12.0))))
    assert lines[0].endswith("song.wav  (0:12)") and lines[1].startswith("  caption  ")
    assert any(line.startswith("  genre        ") and line.count("%") == 3 for line in lines)
    assert any(line.startswith("  not trained  mood, tempo_class") for line in lines)


def test_tempo_key_loudness_and_silence_are_measured(tmp_path: Path) -> None:
    pytest.importorskip("librosa")
    pytest.importorskip("pyloudnorm")
    rate, beat = 22_050, 22_050 // 2  # 120 beats a minute
    times = np.arange(12 * rate) / rate
    chords = sum(np.sin(2 * np.pi * hertz * times) for hertz in (261.63, 329.63, 392.0, 523.25))  # C major
    envelope = np.exp(-4 * (np.arange(len(times)) % beat) / beat)
    wave = 0.1 * chords * envelope
    soundfile.write(tmp_path / "chords.wav", np.concatenate([wave, np.zeros(4 * rate)]), rate)
    found = measure(tmp_path / "chords.wav")
    assert found["bpm"]["value"] == pytest.approx(120, rel=0.05) and 0 <= found["bpm"]["confidence"] <= 1
    assert found["key"]["value"] == "C major" and found["key"]["confidence"] > 0
    assert -40 < found["loudness_lufs"]["value"] < -5
    assert found["silence_share"]["value"] == pytest.approx(0.25, abs=0.02) and found["measured_s"] == 16.0


def test_long_tracks_are_measured_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("librosa")
    pytest.importorskip("pyloudnorm")
    times = np.arange(9 * 22_050) / 22_050
    wave = 0.1 * np.sin(2 * np.pi * 440 * times) * (np.arange(len(times)) % 11_025 < 4000)
    soundfile.write(tmp_path / "long.wav", wave, 22_050)
    whole, sizes = measure(tmp_path / "long.wav"), []
    monkeypatch.setattr(description, "PIECE_S", 4)
    own = description.measure_piece
    monkeypatch.setattr(description, "measure_piece", lambda one: sizes.append(len(one)) or own(one))
    pieces = measure(tmp_path / "long.wav")
    assert sizes == [4 * 22_050, 4 * 22_050, 22_050] and pieces["measured_s"] == whole["measured_s"] == 9.0
    for name in ("bpm", "loudness_lufs", "silence_share"):
        assert pieces[name]["value"] == pytest.approx(whole[name]["value"], rel=0.03)
    assert pieces["key"]["value"] == whole["key"]["value"]
    monkeypatch.setattr(description, "MEASURED_S", 4)
    assert measure(tmp_path / "long.wav")["measured_s"] == 4.0


def test_of_silence_nothing_is_measured_but_its_share(tmp_path: Path) -> None:
    pytest.importorskip("librosa")
    pytest.importorskip("pyloudnorm")
    soundfile.write(tmp_path / "silent.wav", np.zeros(32_000), 16_000)
    measured = measure(tmp_path / "silent.wav")
    assert measured.pop("silence_share")["value"] == 1.0 and measured.pop("measured_s") == 2.0
    assert [one["value"] for one in measured.values()] == [None, None, None]


def test_of_sound_without_pitches_nothing_is_said_on_stderr(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    pytest.importorskip("librosa")
    pytest.importorskip("pyloudnorm")
    soundfile.write(tmp_path / "offset.wav", np.full(32_000, 0.5), 16_000)
    measured = measure(tmp_path / "offset.wav")
    assert measured["bpm"]["value"] is None and not recwarn.list
