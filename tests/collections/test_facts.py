"""What descriptions say: sure facts alone, text of three styles, rows, and files of descriptions."""

import json
from pathlib import Path

import pytest
from made_up import choice, describe

from descant.answering import description as descriptions
from descant.collections.describing import write_table
from descant.collections.facts import (
    Facts,
    find_sound,
    list_tags,
    read_descriptions,
    sure_facts,
    to_row,
    write_sentence,
    write_text,
)


def test_made_up_descriptions_keep_the_published_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(describe("a.mp3", states=[0.5], text="x", settings={}), descriptions.read_schema())


def test_electronic_music_is_called_so_once() -> None:
    facts = Facts(genres=("electronic",), tempo="slow", sound="electronic")
    assert write_sentence(facts) == "Slow electronic music." and list_tags(facts) == ["electronic", "slow"]
    assert write_sentence(Facts(genres=("jazz",), sound="electronic")) == "Electronic jazz."
    assert write_sentence(Facts(genres=("jazz",), tempo="medium")) == "Medium-tempo jazz."


def test_only_what_is_sure_is_a_fact() -> None:
    facts = sure_facts(describe("a.mp3"))
    assert (facts.genres, facts.mood, facts.tempo, facts.metre) == (("jazz",), "calm", "slow", "4/4")
    assert (facts.energy, facts.sound, facts.singing) == (None, None, "no singing")
    assert (facts.instruments, facts.bpm, facts.key) == (("piano", "bass"), 92.0, "C sharp minor")
    doubtful = describe("a.mp3", probability=0.4, bpm=92.0)
    doubtful["measured"]["bpm"]["confidence"] = doubtful["measured"]["key"]["confidence"] = 0.01
    doubtful["decisions"]["mood"]["reason"] = "unlike training"
    facts = sure_facts(doubtful)
    assert (facts.genres, facts.mood, facts.bpm, facts.key) == ((), None, None, None)
    noise = describe("noise.wav", caption=None)
    noise["decisions"]["genre"] |= {"heard": [], "reason": "no music"}
    assert (sure_facts(noise).bpm, sure_facts(noise).key) == (None, None)


def test_a_least_probability_replaces_the_thresholds_and_lets_several_genres_in() -> None:
    two = describe("a.mp3")
    two["decisions"]["genre"] = choice({"rock": 0.35, "jazz": 0.45, "classical": 0.2}, sure=False)
    assert sure_facts(two).genres == ()
    assert sure_facts(two, 0.3).genres == ("jazz", "rock")
    assert sure_facts(two, 0.3).singing == "no singing" and sure_facts(two, 0.96).instruments == ()


def test_the_voice_is_named_where_somebody_sings() -> None:
    sung = describe("a.mp3", vocals=0.9)
    assert sure_facts(sung).singing == "singing"
    sung["decisions"]["voice"] = choice({"no voice": 0.6, "female": 0.4})
    assert sure_facts(sung).singing == "singing"  # and not "no voice voice"
    sung["decisions"]["voice"] = choice({"female": 0.6, "male": 0.4}, sure=False)
    sung["decisions"]["voice"]["sure"] = True
    assert sure_facts(sung).singing == "female voice"


@pytest.mark.parametrize(
    ("style", "text"),
    [
        ("short", "Calm slow jazz with piano and bass, no singing, in 4/4, 92 BPM, C sharp minor."),
        ("tags", "jazz, calm, slow, no singing, piano, bass, 4/4, 92 BPM, C sharp minor"),
    ],
)
def test_a_style_is_made_of_facts(style: str, text: str) -> None:
    assert write_text(describe("a.mp3"), style) == text
    assert write_text(describe("a.mp3"), "long").startswith("A quiet evening. A second sentence. Calm slow jazz")
    assert write_text(describe("a.mp3", caption=None), style) == ""


def test_the_first_sentence_of_a_caption_ends_as_it_was_written() -> None:
    unsure = describe("a.mp3", bpm=None)
    instruments = unsure["decisions"].pop("instruments")
    for answer in (*unsure["decisions"].values(), *instruments.values()):
        answer["sure"] = False
    unsure["decisions"]["instruments"] = instruments
    for caption, first in (("A piano. It is slow.", "A piano."), ("What drums! Loud.", "What drums!"), ("No", "No")):
        unsure["caption"]["text"] = caption
        assert write_text(unsure, "short") == first


def test_a_caption_that_contradicts_what_is_sure_is_left_out() -> None:
    odd = describe("a.mp3")
    for against, kept in (("energy", True), ("genre", False), ("instruments.piano", False), ("lyrics", True)):
        odd["caption"]["contradicts"] = [against]
        assert write_text(odd, "long").startswith("A quiet evening.") is kept


def test_a_row_has_nothing_where_nothing_is_sure() -> None:
    row = to_row(describe("a.mp3", probability=0.3, bpm=None), "tags")
    assert (row["genre"], row["bpm"], row["loudness_lufs"], row["mood"]) == (None, None, None, "calm")


def test_descriptions_are_read_back_from_both_forms_and_bad_lines_are_named(tmp_path: Path) -> None:
    good = describe("a.mp3")
    (tmp_path / "d.jsonl").write_text("\n".join([json.dumps(good), "{}", "no json"]))
    found, problems = read_descriptions(tmp_path / "d.jsonl")
    assert found == [good] and [problem.row for problem in problems] == [2, 3]
    pytest.importorskip("pyarrow")
    write_table(tmp_path / "d.parquet", [good], "long")
    assert read_descriptions(tmp_path / "d.parquet") == ([good], [])
    with pytest.raises(ValueError, match=r"d\.csv: descriptions are read from"):
        read_descriptions(tmp_path / "d.csv")
    (tmp_path / "none.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match="holds no descriptions"):
        read_descriptions(tmp_path / "none.jsonl")


WRONG = [("duration_s", "3"), ("caption", 5), ("caption", {"text": None}), ("measured", [1]), ("model", None),
         ("measured", {"bpm": 5}), ("measured", {"key": {"value": 5, "confidence": 1}}), ("duration_s", float("nan"))]
WRONG_ANSWERS = [5, {}, {"type": "choice", "sure": True}, {"type": "choice", "sure": 1, "probabilities": {"a": 1.0}},
                 {"type": "choice", "sure": True, "probabilities": {}}, {"type": "noul", "sure": True, "noul": "1"},
                 {"type": "score", "sure": True, "probabilities": {"1": 0.5}, "legend": {"2": "b"}}]  # fmt: skip


def test_what_a_stranger_wrote_is_read_or_named_line_by_line(tmp_path: Path) -> None:
    whole = describe("a.wav")
    records = [{**whole, name: value} for name, value in WRONG]
    for answer in WRONG_ANSWERS:
        records.append({**whole, "decisions": {**whole["decisions"], "mood": answer}})
        records.append({**whole, "decisions": {**whole["decisions"], "instruments": {"piano": answer}}})
    lines = [json.dumps(record) for record in (*records, whole)]
    (tmp_path / "d.jsonl").write_text("\n".join([*lines, "[" * 100_000, "7"]))
    good, problems = read_descriptions(tmp_path / "d.jsonl")
    assert good == [whole] and len(problems) == len(records) + 2
    assert str(problems[0]).endswith(":1: is no description: duration_s is '3', not a number")


def test_what_can_be_no_path_is_no_sound_and_stops_nothing() -> None:
    assert find_sound("a" * 300) is None


def test_the_sound_is_looked_for_below_the_folders(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(b"")
    assert find_sound("a.mp3", [tmp_path]) == tmp_path / "a.mp3"
    assert find_sound("b.mp3", [tmp_path]) is None and find_sound("b.mp3", named=tmp_path) is None
