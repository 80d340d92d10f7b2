"""The embedded demo corpus is whole, frozen, balanced and readable by the ordinary readers."""

import json
from collections import Counter, defaultdict

import pytest
import soundfile

from descant.data.demo import (
    SPLITS,
    TEST_SHA256,
    TRACKS_SHA256,
    demo_dir,
    facts,
    hash_test_splits,
    hash_tracks,
    load_demo,
    verify_manifest,
)
from descant.data.terms import DEMO
from descant.evaluation import exact_answer

MEGABYTE = 1_000_000
TERMS = json.loads((demo_dir() / "terms.json").read_text(encoding="utf-8"))  # closed type → term → synonyms


def test_the_terms_of_the_corpus_are_those_that_are_read():
    assert TERMS == DEMO


@pytest.fixture(scope="module")
def splits():
    return load_demo()


@pytest.fixture(scope="module")
def table():
    return facts()


def test_the_rows_are_the_callers_own(splits):
    load_demo()["train"].clear()
    assert load_demo() == splits and splits["train"]


def test_every_file_matches_the_manifest():
    assert verify_manifest() == []


def test_test_splits_are_frozen():
    assert hash_test_splits() == TEST_SHA256


def test_artists_lyrics_and_labels_are_frozen():
    assert hash_tracks() == TRACKS_SHA256


def test_changed_missing_and_unlisted_files_are_named(tmp_path):
    audio = tmp_path / "audio"
    audio.mkdir()
    (tmp_path / "NOTICE").write_text("changed")
    (audio / "extra.ogg").write_bytes(b"")
    (tmp_path / "MANIFEST.sha256").write_text("0  NOTICE\n0  facts.csv\n")
    assert verify_manifest(tmp_path) == [
        "NOTICE: changed", "audio/extra.ogg: not in MANIFEST.sha256", "facts.csv: missing",
    ]  # fmt: skip


def test_corpus_stays_below_14_megabytes():
    files = [path for path in demo_dir().rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) < 14 * MEGABYTE


def test_every_clip_is_ten_seconds_of_16_khz_mono(table):
    for row in table[::20]:
        info = soundfile.info(demo_dir() / "audio" / f"{row['clip_id']}.ogg")
        assert (info.frames, info.samplerate, info.channels) == (160_000, 16_000, 1)


def test_clips_genres_grooves_and_tempi_are_many(table):
    assert len(table) >= 360
    assert len({row["genre"] for row in table}) >= 12
    assert len({row["groove"] for row in table}) >= 30
    assert len({row["soundfont"] for row in table}) >= 2
    assert all(60 <= int(row["tempo_bpm"]) <= 180 for row in table)


def test_test_pairs_of_groove_and_chords_are_in_keys_of_their_own(table):
    keys = defaultdict(set)
    for row in table:
        keys[row["split"], row["groove"], row["chords"]].add(row["key"])
    tested = [(pair, used) for pair, used in keys.items() if pair[0] == "test"]
    assert sum(row["split"] == "test" for row in table) >= 100
    for (_, groove, chords), used in tested:
        assert keys["train", groove, chords]
        assert not used & (keys["train", groove, chords] | keys["validation", groove, chords])


def test_held_out_grooves_occur_in_no_other_split(table):
    held_out = {row["groove"] for row in table if row["split"] == "test_grooves"}
    assert len(held_out) >= 5
    assert not held_out & {row["groove"] for row in table if row["split"] != "test_grooves"}


def test_every_clip_has_caption_closed_and_long_questions(splits, table):
    assert tuple(splits) == SPLITS
    kinds = defaultdict(list)
    for rows in splits.values():
        for row in rows:
            kinds[row.clip_id].append(row.question_type)
    closed = list(TERMS)
    expected = Counter([None, *closed, "long_description", "long_use"])
    assert {row["clip_id"] for row in table} == set(kinds)
    assert all(Counter(found) == expected for found in kinds.values())


def test_rows_carry_the_split_of_the_facts(splits, table):
    split_of = {row["clip_id"]: row["split"] for row in table}
    assert all(row.split == split == split_of[row.clip_id] for split, rows in splits.items() for row in rows)


def test_every_closed_answer_says_what_the_facts_say(splits, table):
    by_clip = {row["clip_id"]: row for row in table}
    for row in (row for rows in splits.values() for row in rows):
        if row.question_type in TERMS:
            assert exact_answer(row.answer, _fact(by_clip[row.clip_id], row.question_type), row.question_type), row


def test_no_closed_question_is_answered_by_one_answer(splits):
    for kind in TERMS:
        answers = [row for row in splits["train"] if row.question_type == kind]
        matches = Counter(term for row in answers for term in TERMS[kind] if exact_answer(row.answer, term, kind))
        assert max(matches.values(), default=0) <= 0.7 * len(answers), kind


def test_questions_and_answers_have_many_wordings(splits):
    asked, answered = defaultdict(set), defaultdict(set)
    for row in splits["train"]:
        asked[row.question_type].add(row.question)
        answered[row.question_type].add(row.answer)
    assert all(len(asked[kind]) >= 6 and len(answered[kind]) >= 6 for kind in asked if kind)


def _fact(row, kind):
    return {"yes": "drums", "no": "no drums"}[row[kind]] if kind == "drums" else row[kind].replace(";", " and")
