"""Labels found by name in an answer."""

import pytest
from label_systems import TREE

from descant.data.tracks import LabelTree
from descant.evaluation.labels import ask_for_genre, match_labels


def test_the_question_names_every_genre():
    assert ask_for_genre(TREE) == "Which one of these is the main genre of this music: rock, pop or jazz?"


@pytest.mark.parametrize(
    ("answer", "genre", "subgenres"),
    [
        ("This is jazz, with some rock in it.", "jazz", ()),
        ("A bebop tune.", "jazz", ("jazz---bebop",)),
        ("Punk rock.", "rock", ("rock---punk",)),
        ("Disco and punk from the pop charts.", "pop", ("pop---disco", "pop---punk")),
        ("Not rock but pop.", "pop", ()),
        ("Something with strings.", None, ()),
        ("rocking popular jazzmen", None, ()),
    ],
)
def test_names_are_found_as_whole_words_unless_denied(answer, genre, subgenres):
    found = match_labels(answer, TREE)
    assert (found[0], set(found[1])) == (genre, set(subgenres))


def test_synonyms_of_a_label_count():
    tree = LabelTree({"hip-hop": (), "electronic": ()})
    assert match_labels("An electronica track.", tree)[0] == "electronic"
    assert match_labels("Hip hop.", tree)[0] == "hip-hop"
