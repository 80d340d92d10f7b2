"""Claims of captions against tags."""

import json

import pytest

from descant.data.terms import find_claims
from descant.evaluation.claims import claim_measures, list_disagreements, read_tags, tags_of
from descant.evaluation.predictions_file import Item, read_items

CAPTIONS = ["A fast jazz piece with saxophone and drums, no vocals.", "A sad piano song."]
TAGS = [["jazz", "sax solo", "slow tempo", "double bass"], ["grand piano", "melancholic"]]


def values() -> dict[str, float]:
    return {measure.name: measure.value() for measure in claim_measures(CAPTIONS, TAGS)}


def test_claims_are_found_by_category_and_denials_left_out() -> None:
    claims = find_claims(CAPTIONS[0])
    assert claims["instruments"] == {"saxophone", "drums"}
    assert claims["genres"] == {"jazz"}
    assert claims["tempi"] == {"fast"}
    assert claims["moods"] == frozenset()


def test_precision_and_recall_count_terms_over_all_clips() -> None:
    scores = values()
    assert scores["instruments_precision"] == pytest.approx(2 / 3)  # saxophone, piano; not drums
    assert scores["instruments_recall"] == pytest.approx(2 / 3)  # sax, piano; not double bass
    assert scores["tempi_precision"] == scores["tempi_recall"] == 0
    assert scores["moods_recall"] == 1
    assert scores["claims_precision"] == pytest.approx(4 / 6)


def test_a_general_and_a_special_name_agree() -> None:
    (precision, *_) = claim_measures(["a guitar and a bass"], [["electric guitar", "synth bass"]])
    assert precision.value() == 1


def test_what_is_invented_and_missed_is_listed() -> None:
    found = list_disagreements(CAPTIONS, TAGS)
    assert set(found["invented"]) == {"fast", "drums"}
    assert set(found["missed"]) == {"slow", "double bass"}


def test_tags_are_found_by_clip_and_by_caption(tmp_path) -> None:
    (tmp_path / "musiccaps.csv").write_text(
        "ytid,start_s,end_s,aspect_list,caption\nabc,30,40,\"['sad', 'piano']\",A sad piano.\n"
    )
    tags = read_tags(tmp_path / "musiccaps.csv")
    for item in (Item("x", ("y",), "[abc]-[30-40]"), Item("x", ("y",), "abc"), Item("x", ("A sad piano.",), "#1")):
        assert tags_of(item, tags.by_name) == ["sad", "piano"]
    assert tags_of(Item("x", ("y",), "#1"), tags.by_name) is None


BAD_TAGS = ["[a", "[" * 100_000, "[" + "-" * 100_000 + "1]", 5, float("nan"), {"a": 1}]


@pytest.mark.parametrize("bad", BAD_TAGS)
def test_tags_of_another_type_are_named_and_the_rest_is_read(tmp_path, bad) -> None:
    lines = [{"clip_id": "bad", "aspect_list": bad}, {"clip_id": "good", "aspect_list": ["sad"]}]
    (tmp_path / "tags.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read_tags(tmp_path / "tags.jsonl")
    assert found.by_name == {"good": ["sad"]} and str(found.problems[0]).startswith(f"{tmp_path}/tags.jsonl:1: bad: ")


def test_published_captions_made_from_the_tags_agree_with_them(shared_dir) -> None:
    tags = read_tags(shared_dir / "data" / "musiccaps" / "musiccaps-public.csv")
    file = shared_dir / "data" / "lp_musiccaps_predictions" / "baseline_template" / "inference.json"
    found = [(item.prediction, tags_of(item, tags.by_name)) for item in read_items(file).items[:300]]
    assert len(json.dumps(found)) > 1000 and all(words for _, words in found)
    scores = {m.name: m.value() for m in claim_measures([text for text, _ in found], [words for _, words in found])}
    assert scores["claims_precision"] > 0.99 and scores["claims_recall"] > 0.99
