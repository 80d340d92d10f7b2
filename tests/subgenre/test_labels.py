"""The label tree keeps names, order and parents, and refuses what it cannot tell apart."""

import pytest

from descant.subgenre.labels import LabelTree, split_label

TREE = LabelTree({"pop": ("disco", "ballad"), "electronic": ("house", "disco"), "reggae": ()})


def test_a_tree_reads_back_as_it_was_written(tmp_path):
    TREE.write(tmp_path / "tree.json")
    again = LabelTree.read(tmp_path / "tree.json")
    assert again == TREE and again.genres == ("pop", "electronic", "reggae")
    assert again.subgenres == ("pop---disco", "pop---ballad", "electronic---house", "electronic---disco")


def test_a_name_under_two_genres_is_two_labels():
    assert TREE.parent("pop---disco") == "pop" and TREE.parent("electronic---disco") == "electronic"
    with pytest.raises(ValueError, match="several genres: write one of pop---disco, electronic---disco"):
        TREE.find_subgenre("disco")


def test_labels_are_found_whatever_their_case_and_spaces():
    assert TREE.find_subgenre("Electronic --- House ") == "electronic---house"
    assert TREE.find_subgenre("BALLAD") == "pop---ballad"
    assert TREE.find_genre(" Reggae") == "reggae"


@pytest.mark.parametrize("label", ["polka", "pop---house", "pop---"])
def test_a_label_that_is_not_in_the_tree_is_named(label):
    with pytest.raises(ValueError, match=f"subgenre '{label}' is not in the label tree"):
        TREE.find_subgenre(label)
    with pytest.raises(ValueError, match="has no subgenre"):
        TREE.parent(label)
    with pytest.raises(ValueError, match="genre 'polka' is not in"):
        TREE.find_genre("polka")


def test_a_tree_of_labels_is_in_the_order_of_the_alphabet():
    tree = LabelTree.of(["rock", "jazz"], ["rock---punk", "funk / soul---funk ", "rock---art rock"])
    assert tree.branches == {"funk / soul": ("funk",), "jazz": (), "rock": ("art rock", "punk")}


@pytest.mark.parametrize("label", ["rock", "---punk", "rock---", ""])
def test_a_name_without_both_parts_is_no_full_name(label):
    with pytest.raises(ValueError, match="no full name"):
        split_label(label)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "tree.json: "),
        ("[]", "expected"),
        ('{"pop": "disco"}', "expected"),
        ('{"pop": [1]}', "expected"),
        ("{}", "at least one genre"),
        ('{"pop": [], "Pop": []}', "genre 'pop' more than once"),
        ('{"pop": ["disco", "Disco"]}', "'disco' more than once"),
        ('{"pop": [], "pop": []}', "genre 'pop' more than once"),
        ('{"pop": [" "]}', "is empty"),
        ('{"pop---disco": []}', "in it"),
    ],
)
def test_a_damaged_tree_is_refused_in_a_sentence(tmp_path, text, reason):
    (tmp_path / "tree.json").write_text(text)
    with pytest.raises(ValueError, match=reason) as refused:
        LabelTree.read(tmp_path / "tree.json")
    assert "tree.json" in str(refused.value)


def test_a_tree_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        LabelTree.read(tmp_path / "none.json")
