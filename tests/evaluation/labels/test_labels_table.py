"""Systems beside each other."""

from label_systems import random_system

from descant.evaluation.labels import paired_difference, render_differences, render_labels_table


def test_table_has_a_row_a_system_and_a_column_a_score():
    gold, told = random_system()
    lines = render_labels_table(gold, {"fusion": [told], "lyrics": [told, told]}).splitlines()
    assert [line.count("|") for line in lines] == [10] * 4
    assert lines[2].startswith("| fusion | ") and "[" in lines[2]


def test_differences_carry_their_sign():
    gold, told = random_system()
    found = {"fusion less lyrics": paired_difference(gold, [told], [told], "genre_macro_f1", n=20)}
    assert "| fusion less lyrics | genre macro f1 | +0.000 | [+0.000, +0.000] |" in render_differences(found)
