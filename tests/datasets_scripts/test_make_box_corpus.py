"""The rows of the model in the box: nothing that is kept for tests, and descriptions of instruments that are heard."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest

from descant.data.demo import demo_dir, facts

SCRIPT = "make_box_corpus"


def row(clip_id: str, audio: Path, split: str = "train") -> dict:
    return {"clip_id": clip_id, "audio": str(audio), "split": split}


def record(plan) -> dict:
    groove = f"{plan.groove.file}:{plan.groove.name}" if plan.kind == "song" else None
    return {"clip_id": plan.clip_id, "kind": "rendered", "split": plan.split, "groove": groove, "key": plan.key,
            "tempo_bpm": plan.tempo_bpm}  # fmt: skip


@pytest.fixture(scope="module")
def songs(script) -> list:
    """A clip of each of the plan's first songs that train."""
    from music_corpus.plan import plan_clips

    return [plan for plan in plan_clips(300) if plan.kind == "song" and plan.split == "train"][:9:3]


@pytest.fixture
def sound(tmp_path) -> Path:
    (tmp_path / "sound").write_bytes(b"some sound")
    return tmp_path / "sound"


def demo_sound(split: str) -> tuple[str, Path]:
    clip = next(one["clip_id"] for one in facts() if one["split"] == split)
    return clip, demo_dir() / "audio" / f"{clip}.ogg"


def test_rows_of_training_clips_are_no_leak(script, songs, sound):
    from box_corpus.leaks import find_leaks

    rows = [row(one.clip_id, sound) for one in songs]
    rows += [row(f"sung-{songs[0].clip_id}", sound), row("other-noise-1", sound), row(*demo_sound("train"))]
    found = find_leaks(rows, [record(one) for one in songs])
    assert not found.leaks
    assert found.looked_at == {"rendered": 4, "no music, made for it": 1, "embedded corpus": 1}


def test_clips_of_the_embedded_corpus_that_are_kept_are_found_by_name_and_by_sound(script, sound):
    from box_corpus.leaks import find_leaks

    clip, audio = demo_sound("test")
    found = find_leaks([row(clip, sound), row("other-noise-1", audio), row("unknown", sound)], [])
    assert [leak.split(": ")[0] for leak in found.leaks] == [clip, "other-noise-1", "unknown"]
    assert "'s test" in found.leaks[0] and "has the sound" in found.leaks[1] and "where it is from" in found.leaks[2]


def test_reserved_grooves_and_pairs_of_groove_and_chords_are_found(script, songs, sound, monkeypatch):
    import box_corpus.leaks as leaks

    one, two, three = songs[0], next(song for song in songs if song.groove.file != songs[0].groove.file), songs[-1]
    rows, records = [row(song.clip_id, sound) for song in songs], [record(song) for song in songs]
    monkeypatch.setattr(leaks, "INDEPENDENT_TEST_FILES", {one.groove.file})
    assert "independent test" in leaks.find_leaks(rows, records).leaks[0]
    monkeypatch.setattr(leaks, "INDEPENDENT_TEST_FILES", {})
    monkeypatch.setattr(leaks, "DEMO_TEST_FILES", {two.groove.file})
    assert any("test_grooves" in leak for leak in leaks.find_leaks(rows, records).leaks)
    monkeypatch.setattr(leaks, "DEMO_TEST_FILES", {})
    monkeypatch.setattr(leaks, "demo_test_pairs", lambda: {(three.groove.file, three.numerals)})
    assert any("embedded corpus's test" in leak for leak in leaks.find_leaks(rows, records).leaks)


def test_a_clip_that_its_seed_does_not_plan_or_of_another_split_is_found(script, songs, sound):
    from box_corpus.leaks import find_leaks

    other = record(songs[0]) | {"tempo_bpm": 1 + songs[0].tempo_bpm}
    assert "not what its seed plans" in find_leaks([row(other["clip_id"], sound)], [other]).leaks[0]
    tested = {"clip_id": "r1", "kind": "real", "split": "test"}
    assert "its split is test" in find_leaks([row("r1", sound)], [tested]).leaks[0]
    assert "of the split test" in find_leaks([row("r1", sound, "test")], [tested]).leaks[0]


def test_the_check_ends_with_status_1_where_there_are_leaks(script, sound, tmp_path, monkeypatch, capsys):
    import json

    import check_box_corpus

    rows = tmp_path / "rows.jsonl"
    for clip, status in (("other-noise-1", 0), (demo_sound("test")[0], 1)):
        rows.write_text(json.dumps(row(clip, sound)) + "\n")
        monkeypatch.setattr(sys, "argv", ["check_box_corpus.py", str(rows)])
        assert check_box_corpus.main() == status
    assert "no leaks" in capsys.readouterr().out


def test_an_instrument_is_audible_where_it_plays_and_states_of_other_clips_tell(script):
    from box_corpus.audible import find_audible
    from box_corpus.facts import Known

    generator = np.random.default_rng(0)
    clips, states = [], {}
    for number in range(200):
        names = ["flute"] * (generator.random() < 0.5) + ["harp"] * (generator.random() < 0.3) or ["drums"]
        clips.append(Known(f"c{number:03}", Path("x"), "train", True, instruments=names))
        states[f"c{number:03}"] = np.append(generator.standard_normal(6), 3.0 * ("flute" in names)).astype(np.float16)
    audible = find_audible(clips, states)
    played = {one.clip_id: one.instruments for one in clips}
    assert all(set(names) <= set(played[clip]) for clip, names in audible.items())
    shares = {name: sum(name in audible[one] for one in audible) / sum(name in names for names in played.values())
              for name in ("flute", "harp")}  # fmt: skip
    assert shares["flute"] > 0.95 and shares["harp"] < 0.3


def test_a_description_names_what_is_audible_alone(script):
    from box_corpus.facts import Known
    from box_corpus.rows import describe

    known = Known("c", Path("x"), "train", True, instruments=["flute", "harp", "electric bass"])
    known.lead_instrument, known.bass, known.drums = "flute", "electric bass", False
    texts = {describe(known, random.Random(seed)) for seed in range(20)}
    assert not any(word in text for text in texts for word in ("flute", "harp", "electric"))
    known.audible = ["flute"]
    assert all("flute" in describe(known, random.Random(seed)) for seed in range(20))


def test_music_of_guitars_is_not_taught_to_have_none(script):
    from box_corpus.taught import PLAYED_ON_GUITARS, judge_guitar

    quiet = {f"{network} {tag}": 0.01 for network, tags in PLAYED_ON_GUITARS.items() for tag in tags}
    from descant.models.musicnn import MusicnnConfig

    config = MusicnnConfig()
    nothing = {f"{network} {tag}": 0.01 for network in config.networks for tag in config.tags_of(network)}
    assert quiet.keys() <= nothing.keys()
    assert judge_guitar(nothing, False) is False and judge_guitar(nothing, None) is None
    assert judge_guitar(nothing | {"msd folk": 0.15}, False) is None
    assert judge_guitar(nothing | {"mtt metal": 0.6, "msd metal": 0.6}, False) is True


def tagged(**probabilities: float) -> dict[str, float]:
    """Every tag of both networks at .01, but for some."""
    from descant.models.musicnn import MusicnnConfig

    config = MusicnnConfig()
    tags = {f"{network} {tag}": 0.01 for network in config.networks for tag in config.tags_of(network)}
    return tags | {name.replace("_", " "): probability for name, probability in probabilities.items()}


CLASSICAL = {"mtt_classical": 0.6, "mtt_violin": 0.4, "msd_instrumental": 0.5, "msd_beautiful": 0.4}
ROCK = {"mtt_rock": 0.6, "msd_rock": 0.6}
STYLED = [  # style by the plan, tags, genre and classical that are taught
    ("classical", CLASSICAL, "classical", True), ("solo", CLASSICAL, "classical", True),
    ("jazz", CLASSICAL, None, False), (None, CLASSICAL, None, None), ("solo", {}, None, None),
    ("ragtime", {}, None, False), ("ambient", {}, None, None), ("rock", ROCK, "rock", False),
    ("pop", ROCK, None, False),
]  # fmt: skip


@pytest.mark.parametrize(("style", "said", "genre", "classical"), STYLED)
def test_a_genre_of_a_rendering_is_what_its_plan_and_its_tags_say_both(script, style, said, genre, classical):
    from box_corpus.facts import Known
    from box_corpus.taught import teach_rendering

    known = Known("c", Path("x"), "train", True, style=style)
    teach_rendering(known, tagged(**said))
    assert (known.genre, known.classical) == (genre, classical)


def test_a_rendering_is_asked_more_often_about_what_carries_over_to_real_music(script):
    from box_corpus.facts import Known
    from box_corpus.rows import CARRIED_TIMES, make_rows
    from box_corpus.taught import teach_rendering

    counts = []
    for said in ({"mtt_guitar": 0.6, "msd_acoustic": 0.6}, {"mtt_techno": 0.6, "msd_electronic": 0.6}):
        known = Known("c", Path("x"), "train", True, electronic="acoustic")
        teach_rendering(known, tagged(**said))
        counts.append(sum(row["question_type"] == "electronic" for row in make_rows(known)))
    assert counts == [CARRIED_TIMES, 1]


def test_real_clips_that_train_are_asked_more_often(script):
    from box_corpus.facts import Known
    from box_corpus.rows import REAL_TIMES, make_rows

    clips = [Known("c", Path("x"), split, False, genre="folk") for split in ("train", "validation")]
    counts = [sum(row["question_type"] == "genre" for row in make_rows(one)) for one in clips]
    assert counts == [REAL_TIMES, 1]


def test_whether_music_is_classical_is_read_off_the_answers(script):
    from box_corpus.wordings import ANSWERS

    from descant.data.terms import find_terms

    for key, option in (("classical yes", "classical"), ("classical no", "not classical")):
        assert {find_terms(answer, "classical") for answer in ANSWERS[key]} == {frozenset({option})}


def test_clips_of_a_table_elsewhere_are_found_from_the_rows_too(script, tmp_path, monkeypatch):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/a.ogg").write_bytes(b"sound")
    line = '{"clip_id": "a", "file": "a.ogg", "split": "train", "kind": "speech"}'
    (tmp_path / "corpus/facts.jsonl").write_text(f"{line}\n")
    monkeypatch.chdir(tmp_path)
    (known,) = script.read_facts(Path("corpus/facts.jsonl"))
    assert known.audio == tmp_path / "corpus/a.ogg"


def test_singers_go_on_behind_a_line_that_a_kill_tore(script, tmp_path, monkeypatch):
    def sing(records, folder):
        yield from (one | {"clip_id": f"sung-{one['clip_id']}", "file": "x.flac"} for one in records)

    monkeypatch.setattr(script, "sing_over", sing)
    line = {"clip_id": "a", "file": "a.ogg", "split": "train", "kind": "rendered"}
    clips = [script.read_record(line | {"clip_id": name}, tmp_path / f"{name}.ogg") for name in ("a", "b")]
    ledger = tmp_path / "sung.jsonl"
    script.make_singers(clips, tmp_path, 1.0)
    whole = ledger.read_text()
    ledger.write_text(whole[:-9])
    assert [one.clip_id for one in script.make_singers(clips, tmp_path, 1.0)] == ["sung-a", "sung-b"]
    assert ledger.read_text().endswith(whole.splitlines()[1] + "\n")


def test_half_a_clip_is_never_left_as_one_that_is_there(script, tmp_path, monkeypatch):
    import box_corpus.no_music as no_music

    def break_off(path, *_):
        Path(path).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(no_music, "KINDS", no_music.KINDS[1:2])  # a noise, without espeak-ng
    monkeypatch.setattr(no_music.soundfile, "write", break_off)
    with pytest.raises(OSError, match="no space left"):
        script.make_silent(tmp_path, 1)
    assert not list(tmp_path.iterdir())
