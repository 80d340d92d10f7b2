"""Plain systems: the commonest labels, asking, TF-IDF."""

import numpy as np
import pytest

from descant.data.tracks import LabelTree, Track, TrackCorpus
from descant.evaluation.labels import ask_for_genre
from descant.inference.track_hearing import Said, TrackHearing
from descant.training.subgenre.data import SubgenreData
from descant.training.subgenre.examples import gather_examples
from descant.training.subgenre.plain_systems import tell_by_asking, tell_by_tfidf, tell_commonest

TREE = LabelTree({"jazz": ("swing",), "pop": ("disco",)})
ASKED = ask_for_genre(TREE)


@pytest.fixture
def data():
    """Eight tracks whose lyrics tell the genre; the captioner answers about two of the test tracks."""
    kinds = [("jazz", "swing")] * 5 + [("pop", "disco")] * 3
    splits = ["train"] * 3 + ["validation", "test", "train", "validation", "test"]
    tracks = [
        Track(str(n), None, f"{genre} words sung {genre}", None, genre, (f"{genre}---{name}",), "en", split, "test")
        for n, ((genre, name), split) in enumerate(zip(kinds, splits, strict=True))
    ]
    tracks.append(Track("9", None, "more jazz words sung", None, "jazz", (), "en", "train", "test"))
    tracks.append(Track("10", None, "pop words sung pop", None, "pop", ("pop---disco",), "en", "train", "test"))
    answers = ["it is pop", "a disco song", "it is jazz", "it is pop"]
    said = tuple(Said(10.0 * n, 10.0 * n + 10, ASKED, answer) for n, answer in enumerate(answers))
    hearings = {"4": TrackHearing("4", said, np.ones(2)), "7": TrackHearing("7", error="bad")}
    corpus = TrackCorpus(tracks, TREE, "test", "cc0-1.0", "1")
    by_split = {split: corpus.split(split) for split in ("train", "validation", "test")}
    examples = {split: gather_examples(part, hearings, (), TREE) for split, part in by_split.items()}
    return SubgenreData(corpus, "captioner", (), {}, by_split, hearings, examples)


def test_the_commonest_genre_and_its_commonest_subgenres_are_told_for_all(data):
    told = tell_commonest(data, "test")
    assert told.genres.tolist() == [[1, 0], [1, 0]] and told.chosen.tolist() == [[True, False], [True, False]]


def test_the_answer_to_most_windows_counts_and_no_answer_is_no_genre(data):
    told = tell_by_asking(data, "test")
    assert told.genres.tolist() == [[0, 1], [0, 0]]
    assert told.chosen.tolist() == [[False, False], [False, False]]


@pytest.mark.parametrize("captions", [False, True])
def test_words_tell_the_genre(data, captions):
    told = tell_by_tfidf(data, "test", captions)
    assert told.genres.argmax(axis=1).tolist() == [0, 1]
    assert told.chosen.tolist() == [[True, False], [False, True]]
