"""Exact answers: whole sentences compared by what they name, and claims of captions against tags."""

import json
from types import SimpleNamespace

import pytest

from descant.data import terms
from descant.data.annotations import Row
from descant.data.demo import facts, load_demo
from descant.data.terms import COMMON, find_claims, find_terms, normalise, surface_forms
from descant.evaluation import exact_answer, majority_answers
from descant.evaluation.claims import (
    claim_measures,
    consistency_measures,
    count_claims,
    gather_facts,
    list_disagreements,
    long_measures,
    read_claims,
    read_tags,
    tags_of,
)
from descant.evaluation.exact import exact_measures, is_closed
from descant.evaluation.predictions_file import Item, read_items


@pytest.mark.parametrize(
    ("prediction", "reference", "question_type"),
    [
        ("This is a rap song.", "hip-hop", "genre"),
        ("It is played on piano, a violin and drums.", "The instruments are drums, fiddle and piano.", "instruments"),
        ("The tempo is moderate.", "medium", "tempo_class"),
        ("It feels joyful.", "The mood is happy.", "mood"),
        ("Yes, there are drums.", "yes", "drums"),
        ("No, there are no drums.", "There are no drums.", "drums"),
        ("Something else", "something else!", None),
        ("A night at sea.", "night at sea", "genre"),
    ],
)
def test_answers_that_say_the_same_are_equal(prediction: str, reference: str, question_type: str | None) -> None:
    assert exact_answer(prediction, reference, question_type)


@pytest.mark.parametrize(
    ("prediction", "reference", "question_type"),
    [
        ("It could be jazz or rock.", "jazz", "genre"),
        ("piano", "piano and drums", "instruments"),
        ("piano, drums and flute", "piano and drums", "instruments"),
        ("It is not slow.", "slow", "tempo_class"),
        ("", "jazz", "genre"),
        ("There are no drums.", "Yes, there are drums.", "drums"),
        ("piano music", "piano", None),
    ],
)
def test_answers_that_say_more_less_or_other_things_differ(
    prediction: str, reference: str, question_type: str | None
) -> None:
    assert not exact_answer(prediction, reference, question_type)


def test_majority_answers_count_meanings_and_return_their_commonest_wording() -> None:
    answers = ["jazz", "It is rap.", "hip-hop", "It is rap.", "jazz"]
    rows = [SimpleNamespace(question_type="genre", answer=answer) for answer in answers]
    rows.append(SimpleNamespace(question_type=None, answer="A caption."))
    rows.append(SimpleNamespace(question_type="bass", answer="no"))
    assert majority_answers(rows) == {"genre": "It is rap.", "bass": "no"}


def test_exact_scores_count_closed_questions_only() -> None:
    kinds = ["genre", "genre", "mood", "long_use", None]
    texts = ["jazz", "rock", "happy", "x", "y"]
    wanted = [["a jazz piece"], ["jazz"], ["sad", "cheerful"], ["x"], ["y"]]
    scores = {measure.name: measure.value() for measure in exact_measures(texts, wanted, kinds)}
    assert scores == {"exact": pytest.approx(2 / 3), "exact_genre": 0.5, "exact_mood": 1.0}
    assert exact_measures(["y"], [["y"]], [None]) == []


def test_every_closed_answer_of_the_demo_corpus_says_its_fact() -> None:
    known = {fact["clip_id"]: fact for fact in facts()}
    rows = [row for rows in load_demo().values() for row in rows if is_closed(row.question_type)]
    assert len(rows) > 5000
    for row in rows:
        fact = known[row.clip_id][row.question_type].replace(";", ",")
        assert exact_answer(row.answer, fact, row.question_type), row


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The Hip-Hop! ", "hip hop"),
        ("It's an 80's song.", "its 80s song"),
        ("4/4 and r&b", "4/4 and r&b"),
        ("piano/guitar", "piano guitar"),
        ("Café — fado", "cafe fado"),
    ],
)
def test_case_accents_articles_and_punctuation_do_not_matter(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_the_longest_wording_wins() -> None:
    assert find_terms("An electric guitar, a bass drum and synth bass.", "instruments") == {
        "electric guitar", "kick", "synth bass",
    }  # fmt: skip


def test_words_inside_other_words_are_not_terms() -> None:
    assert find_terms("A popular harpsichordist", "genre") == frozenset()
    assert find_terms("harpsichordist", "instruments") == frozenset()


def test_plurals_name_the_same_term() -> None:
    assert find_terms("two pianos and flutes", "instruments") == {"piano", "flute"}


def test_denied_terms_are_not_named() -> None:
    assert find_terms("There are no drums or percussion, only a piano.", "instruments") == {"piano"}
    assert find_terms("A guitar without any vocals", "instruments") == {"guitar"}


@pytest.mark.parametrize(
    "text", ["No drums or vocals.", "No vocals or drums.", "There is neither a drum kit nor singing.",
             "Without any drums; no drum kit or electric bass or voice."]
)  # fmt: skip
def test_a_denial_reaches_over_or_to_terms_of_other_types(text: str) -> None:
    claims = terms.read_claims(text)
    assert claims["drums"] <= {"no drums"} and claims["voices"] == {"no vocals"}


def test_a_denial_of_many_is_read_in_one_pass() -> None:
    assert terms.mark_pauses("no horn" + " or horn" * 20_000).count("or no horn") == 20_000  # else in minutes


def test_metres_are_read_as_fractions_or_words() -> None:
    assert find_terms("It is in 3/4, a waltz.", "metre") == find_terms("Waltz time", "metre") == {"3/4"}
    assert find_terms("13/4", "metre") == frozenset()


def test_lead_instruments_share_the_instruments_table() -> None:
    assert find_terms("The sax leads.", "lead_instrument") == {"saxophone"}


def test_an_unknown_type_has_no_terms() -> None:
    assert find_terms("a piano", "long_use") == frozenset()


@pytest.mark.parametrize("question_type", ["genre", "subgenre", "instruments", "mood", "drums", "bass", "metre"])
def test_every_wording_of_the_table_names_one_answer(question_type: str) -> None:
    forms = surface_forms(question_type)
    assert all(find_terms(wording, question_type) == {canonical} for wording, canonical in forms.items())


def test_the_table_gives_no_wording_two_meanings() -> None:
    for question_type, answers in COMMON.items():
        if isinstance(answers, dict):
            wordings = [normalise(word) for canonical, words in answers.items() for word in (canonical, *words)]
            assert len(wordings) == len(set(wordings)), question_type


def test_the_demo_corpus_renames_a_canonical_answer_with_all_its_synonyms() -> None:
    assert find_terms("calm", "mood") == find_terms("relaxing", "mood") == {"peaceful"}


def test_yes_and_no_answer_only_at_the_start() -> None:
    assert find_terms("No.", "drums") == find_terms("There are no drums.", "drums") == {"no drums"}
    assert find_terms("Yes, a drum kit.", "drums") == find_terms("The drums play no fills.", "drums") == {"drums"}
    assert find_terms("No, there is no bass.", "bass") == {"no bass"}


def test_a_denied_kind_is_not_an_answer() -> None:
    assert find_terms("It has no upright bass but an electric bass.", "bass") == {"electric bass"}
    assert find_terms("No upright bass.", "bass") == frozenset()


def test_a_subgenre_does_not_name_a_second_genre() -> None:
    assert find_terms("It is rock, classic rock, close to heavy metal.", "genre") == {"rock"}
    assert find_terms("electronic music: techno", "genre") == {"electronic"}


@pytest.mark.parametrize("text", ["bass, drums", "bass; drums.", "bass/drums", "Bass - drums", "bass and drums"])
def test_no_term_reaches_over_a_pause(text: str) -> None:
    assert find_terms(text, "instruments") == {"bass", "drums"}


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


FACTS = gather_facts(
    [
        Row("a", "?", answer, kind, "own", 0, 10)
        for kind, answer in [
            ("genre", "This is jazz."), ("subgenre", "It is a jazz waltz."), ("tempo_class", "It is slow."),
            ("instruments", "You hear piano, violin, bass and drums."), ("drums", "Yes."), ("long_use", "At a race."),
        ]
    ]
)  # fmt: skip


def consistent(text: str, kind: str | None = "long_description") -> dict[str, tuple[float, int]]:
    measures = consistency_measures([Item(text, ("x",), "a", question_type=kind)], FACTS)
    return {one.name.removeprefix("claims_consistent"): (one.value(), count_claims(one)) for one in measures}


def test_claims_that_closed_questions_answer_otherwise_are_contradictions() -> None:
    found = consistent("A slow jazz waltz in 3/4, sad, with piano and organ. There are no drums.")
    assert found["_genres"] == (1, 2) and found["_tempi"] == (1, 1)
    assert found["_instruments"] == (0.5, 2)  # piano, not the organ
    assert found["_drums"] == (0, 1)
    assert "_metres" not in found and "_moods" not in found  # of which nothing is known
    assert found[""] == (pytest.approx(4 / 6), 6)


def test_drums_and_bass_are_no_instruments_beside_their_own_categories() -> None:
    assert read_claims("Drums, an upright bass and a flute.")["instruments"] == {"flute"}
    assert read_claims("neither drums nor piano")["drums"] == {"no drums"}


def test_only_long_answers_and_captions_claim() -> None:
    assert consistent("It is fast.", None)[""] == (0, 1)
    assert consistent("It is fast.", "tempo_class") == {}
    assert consistent("Nothing known is named.") == {}


def test_an_answer_that_says_nothing_is_seen_by_how_little_it_claims() -> None:
    texts = (("It is jazz. A piano plays.", "long_description"), ("I am not sure.", None), ("It is jazz", "genre"))
    each, whole = long_measures([Item(text, ("x",), "a", question_type=kind) for text, kind in texts], FACTS)
    assert (each.name, each.value()) == ("checked_claims", 1)  # two and none; a short answer is none of them
    assert (whole.name, whole.value()) == ("grammatical", 1)
    assert long_measures([Item("It is jazz and", ("x",), "a")], FACTS)[1].value() == 0
    assert long_measures([Item("jazz", ("x",), "a", question_type="genre")], FACTS) == []


def test_the_demos_own_long_answers_contradict_next_to_nothing() -> None:
    rows = load_demo()["test"]
    items = [Item(row.answer, (row.answer,), row.clip_id, question_type=row.question_type) for row in rows]
    overall, *_ = consistency_measures(items, gather_facts(rows))
    assert count_claims(overall) > 2000
    assert overall.value() > 0.98  # "the world of jazz" and "a relaxed pace" are read as claims
