"""The demo corpus's tracks: artists apart between the splits, lyrics that hang together with genre only loosely."""

from collections import Counter, defaultdict

import pytest

from descant.data.demo import SPLITS, facts
from descant.data.tracks.demo_tracks import load_demo_tracks


@pytest.fixture(scope="module")
def corpus():
    return load_demo_tracks()


def test_every_clip_is_a_track_with_the_labels_and_split_of_the_facts(corpus):
    expected = [(row["clip_id"], row["split"], row["genre"], f"{row['genre']}---{row['subgenre']}") for row in facts()]
    assert [(t.track_id, t.split, t.genre, *t.subgenres) for t in corpus.tracks] == expected
    assert all(track.audio.is_file() for track in corpus.tracks)
    assert set(corpus.tree.subgenres) == {label for track in corpus.tracks for label in track.subgenres}


def test_no_artist_is_in_two_splits_and_the_test_split_has_at_least_forty(corpus):
    splits = defaultdict(set)
    for track in corpus.tracks:
        splits[track.artist].add(track.split)
    assert all(len(found) == 1 for found in splits.values())
    counts = Counter(split for (split,) in splits.values())
    assert set(counts) == set(SPLITS) and counts["test"] >= 40
    assert len(corpus.split("test")) >= 120


def test_an_artist_has_one_home_genre_and_some_play_another_once(corpus):
    genres = defaultdict(Counter)
    for track in corpus.tracks:
        genres[track.artist][track.genre] += 1
    assert all(max(found.values()) > sum(found.values()) / 2 for found in genres.values())
    assert any(len(found) == 2 for found in genres.values())


def test_a_fifth_to_a_third_of_the_tracks_are_instrumental_in_every_split(corpus):
    for split in SPLITS:
        part = corpus.split(split)
        assert 0.2 <= sum(track.lyrics is None for track in part) / len(part) <= 0.35, split


def test_lyrics_have_60_to_200_words_and_some_are_in_another_language(corpus):
    sung = [track for track in corpus.tracks if track.lyrics is not None]
    assert all(60 <= len(track.lyrics.split()) <= 200 for track in sung)
    languages = Counter(track.language for track in sung)
    assert set(languages) == {"en", "es", "de"} and languages["en"] > 0.8 * len(sung)


def test_words_of_a_linear_probe_tell_a_third_to_a_half_of_the_genres(corpus):
    """The band fixed before any model was trained: 35–55 % over all test tracks, and over those with words."""
    text, linear = pytest.importorskip("sklearn.feature_extraction.text"), pytest.importorskip("sklearn.linear_model")
    train = [track for track in corpus.split("train") if track.lyrics]
    words = text.TfidfVectorizer(sublinear_tf=True)
    probe = linear.LogisticRegression(C=10, max_iter=1000)
    probe.fit(words.fit_transform([track.lyrics for track in train]), [track.genre for track in train])
    usual = Counter(track.genre for track in train).most_common(1)[0][0]
    test = corpus.split("test")
    guesses = probe.predict(words.transform([track.lyrics or "" for track in test]))
    right = {t.track_id: (g if t.lyrics else usual) == t.genre for t, g in zip(test, guesses, strict=True)}
    sung = [track.track_id for track in test if track.lyrics]
    assert 0.35 <= sum(right.values()) / len(test) <= 0.55
    assert 0.35 <= sum(map(right.get, sung)) / len(sung) <= 0.55
