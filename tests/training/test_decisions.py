"""What is fitted for typed answers: types out of rows, temperatures, thresholds, and what music sounds like."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from tiny import build_tiny_model

from descant.data.annotations import Row
from descant.data.corpus import load_corpus
from descant.data.demo import load_demo
from descant.evaluation.calibration import ScoredType, decide_rows, log_probabilities
from descant.models.lp_music_caps.decision_music import QuestionType
from descant.models.lp_music_caps.sure_claims import SureClaims
from descant.models.lp_music_caps.track_music import MusicReference, describe_sound, measure_bands
from descant.training.decisions import (
    collect_types,
    find_safe_threshold,
    find_threshold,
    fit_claims,
    fit_decisions,
    fit_shifts,
)
from descant.training.music_reference import fit_reference, make_sounds
from descant.training.probes import (
    add_probes,
    add_scores,
    fit_probe,
    fit_probes,
    fit_temperature,
    fit_units,
    read_units,
    widen_probes,
)


def test_closed_types_of_one_term_are_collected_with_all_their_sentences():
    types = collect_types(load_demo()["train"])
    assert set(types) == {"genre", "subgenre", "tempo_class", "lead_instrument", "drums", "bass", "mood", "metre"}
    assert len(types["genre"].answers) == 12
    assert "No, there are no drums." in types["drums"].answers["no drums"]
    assert "This is {option} music." in types["genre"].carriers
    assert "percussion" in types["drums"].synonyms["drums"]


def test_what_asks_for_a_list_is_no_choice_though_answers_name_one_thing():
    answers = {"instruments": "You can hear a {}.", "lead_instrument": "A {} leads."}
    rows = [Row("clip", "What plays?", text.format(one), name, "", 0.0, 10.0)
            for name, text in answers.items() for one in ("flute", "harp")]  # fmt: skip
    assert set(collect_types(rows)) == {"lead_instrument"}


def test_a_model_that_knows_nothing_is_fitted_to_be_unsure(monkeypatch):
    model, processor = build_tiny_model()
    rows = load_demo()
    few = {row.clip_id for row in rows["validation"][:40]}
    zeros = type("Zeros", (), {"read": lambda self, clip, out=None: np.full((128, 1001), -40, np.float32)})()
    validation = [row for row in rows["validation"] if row.clip_id in few]
    monkeypatch.setattr("descant.training.decisions.PROBED_CLIPS", 20)
    config = fit_decisions(model, processor, rows["train"], validation, zeros)
    genre = config.types()["genre"]
    assert genre.decisions == len(few) and set(genre.shifts) == set(genre.answers)
    found = decide_rows(model, processor, {"genre": genre}, config.wordings, validation, zeros)["genre"]
    probabilities = np.exp(log_probabilities(found.scores, genre.temperature))
    assert probabilities.max() < min(0.5, genre.threshold)  # so nothing is sure


def test_shifts_bring_the_means_of_options_to_their_frequencies():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(500, 3)) + np.array([2.0, 0.0, 0.0])  # the first one is said too easily
    right = generator.choice(3, size=500, p=[0.2, 0.3, 0.5])
    scored = ScoredType(scores, right, [str(number) for number in range(500)])
    shifts = fit_shifts(scored, ["a", "b", "c"])
    assert shifts["a"] < shifts["b"] < shifts["c"]
    shifted = add_scores(scored, np.array(list(shifts.values())))
    means = [np.exp(log_probabilities(one.scores, 1.0)).mean(axis=0) for one in (scored, shifted)]
    before, after = (np.abs(mean - [0.2, 0.3, 0.5]).sum() for mean in means)
    assert after < 0.5 * before


def test_a_probe_separates_what_its_states_separate_and_counts_on_nothing_else():
    generator = np.random.default_rng(0)
    right = generator.choice(3, size=600, p=[0.2, 0.3, 0.5])
    states = generator.normal(size=(600, 4)).astype(np.float32)
    states[:, 0] += 3.0 * right
    states = states * [1, 10, 1, 0] + [0, 0, 50, 7]  # of other scales and means, and one that never changes
    probe = fit_probe(states.astype(np.float32)[:400], right[:400], 3)
    scores = states[400:] @ probe[:, :-1].T + probe[:, -1]
    assert (scores.argmax(axis=1) == right[400:]).mean() > 0.75
    assert np.abs(probe[:, 0]).max() > 3 * np.abs(probe[:, 1:-1] * [10, 1, 0]).max()
    nothing = fit_probe(np.ones((600, 2), np.float32), right, 3)
    frequencies = np.bincount(right) / 600
    logits = nothing.sum(axis=1)
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(), frequencies, atol=0.01)


def test_hidden_units_tell_what_no_weighted_sum_of_the_states_tells():
    generator = np.random.default_rng(0)
    rows, answers = load_demo()["train"], ("No, there are no drums.", "Yes, there are drums.")
    example = next(row for row in rows if row.question_type == "drums")
    signs = generator.choice([-1.0, 1.0], size=(640, 2))
    there = (signs.prod(axis=1) > 0).astype(int)  # whether the two states agree, which no sum of them says
    states = np.column_stack([1.2 * signs, generator.normal(size=640)]).astype(np.float32)
    of_clips = {str(number): one for number, one in enumerate(states)}
    asked = [replace(example, clip_id=clip, answer=answers[one]) for clip, one in zip(of_clips, there, strict=True)]
    types = {kind: one for kind, one in collect_types(rows).items() if kind in ("drums", "metre")}
    hidden, probes = fit_units(types, asked[:512], of_clips)
    assert set(probes) == {"drums"}  # nothing is known of the metre
    heard = np.stack([read_units(np.append(np.float32([7.0]), one), hidden) for one in states[512:]])
    assert (heard[:, 0] == 7.0).all()  # embeddings stay, before the units
    scores = heard[:, 1:] @ probes["drums"][:, :-1].T + probes["drums"][:, -1]
    yes = list(types["drums"].answers).index("drums")
    assert ((scores.argmax(axis=1) == yes) == there[512:]).mean() > 0.95

    plain = fit_probes(types, asked[:512], {clip: one[:1] for clip, one in of_clips.items()})
    narrow, wide = widen_probes(plain, probes)
    assert narrow["drums"].shape == wide["drums"].shape == (2, 1 + heard.shape[1])
    np.testing.assert_allclose(heard @ wide["drums"][:, :-1].T + wide["drums"][:, -1], scores, rtol=1e-4, atol=1e-5)
    assert widen_probes(plain, {}) == [plain]
    assert fit_units(types, asked, {}) == ("", {})
    np.testing.assert_array_equal(read_units(states[0], ""), states[0])


@pytest.mark.parametrize(("telling", "counts"), [(True, True), (False, False)])
def test_a_probe_counts_only_where_it_makes_validation_answers_likelier(telling, counts):
    generator = np.random.default_rng(0)
    right = generator.choice(2, size=200)
    scores = log_probabilities(generator.normal(size=(200, 2)) + 1.5 * np.eye(2)[right], 1.0)
    told = right if telling else generator.choice(2, size=200)
    states = {str(number): np.float32([one + 0.5, 0.5]) for number, one in enumerate(told)}
    kind = QuestionType(questions=["?"], answers={"no": ["no"], "yes": ["yes"]})
    probe = np.array([[0.0, 0.0, 0.0], [2.0, 0.0, -2.0]])  # of the mean, the deviation and the constant
    scored = {"kind": ScoredType(scores, right, list(states))}
    found = add_probes({"kind": kind}, scored, [{"kind": probe}, {"kind": -probe}], states)["kind"]
    assert bool(kind.probe) == counts
    if not counts:
        assert found is scored["kind"]
        return
    weights = np.array([kind.probe["no"], kind.probe["yes"]])
    added = np.stack(list(states.values())) @ weights[:, :-1].T + weights[:, -1]
    np.testing.assert_allclose(found.scores, log_probabilities(scores + added, 1.0), atol=1e-4)


# What long answers may claim


@pytest.fixture(scope="module")
def claims() -> SureClaims:
    """Fitted on states that tell whether there are drums and which instruments play, and nothing of the genre."""
    rows = load_demo()
    generator = np.random.default_rng(0)
    parts = [
        [row for row in part if row.question_type in ("drums", "genre", "instruments", "long_description", None)]
        for part in (rows["train"], [*rows["validation"], *rows["test"]])
    ]
    states = []
    for part in parts:
        drums = {row.clip_id: row.answer.startswith("Yes") for row in part if row.question_type == "drums"}
        flutes = {row.clip_id: "flute" in row.answer for row in part if row.question_type == "instruments"}
        noise = generator.normal(size=(len(drums), 3))
        states.append({
            clip: np.float32([4.0 * there + one[0], 4.0 * flutes[clip] + one[1], one[2]])
            for (clip, there), one in zip(drums.items(), noise, strict=True)
        })  # fmt: skip
    types = collect_types(parts[0])
    found = fit_claims(types, fit_probes(types, parts[0], states[0]), parts, states)
    assert found is not None
    return SureClaims(**asdict(found))


def test_what_the_states_tell_may_be_claimed_and_nothing_else(claims):
    assert claims.find_sure(np.float32([5.0, -1.0, 0.0])) == {
        "drums": {"drums"}, "instruments": frozenset(), "genres": frozenset()
    }  # fmt: skip
    sure = claims.find_sure(np.float32([-1.0, 5.0, 0.0]))
    assert sure["drums"] == {"no drums"} and sure["instruments"] == {"flute"}
    with pytest.raises(ValueError, match="fitted for another model"):
        claims.find_sure(np.zeros(7, np.float32))


def test_what_is_sure_is_stated_by_a_training_sentence_that_says_nothing_else(claims):
    assert set(claims.sentences["drums"]) == {"drums", "no drums"}
    texts = [text for stated in claims.sentences.values() for text in stated.values()]
    assert len(texts) == 14 and not any(text.startswith(("Yes", "No,", "It ")) for text in texts)


def test_captions_and_questions_of_the_long_types_have_long_answers(claims):
    assert claims.is_long(None, "One sentence.") and claims.is_long("Describe this music in detail!", "One sentence.")
    assert claims.is_long("Tell me about it.", "It is one. It has two.") and not claims.is_long("Tell me.", "One.")
    assert not claims.is_long("What genre is this music?", "It is jazz. It is blues.")


def test_a_threshold_is_safe_where_enough_decisions_prove_it():
    probabilities = np.linspace(0.5, 1.0, 400)
    hits = np.random.default_rng(0).random(400) < np.where(probabilities > 0.7, 0.97, 0.4)
    threshold = find_safe_threshold(probabilities, hits)
    assert 0.6 < threshold < 0.85 and hits[probabilities >= threshold].mean() > 0.9
    assert find_safe_threshold(probabilities[-3:], np.ones(3)) == 1.0  # three right ones prove little
    heavy = np.where(probabilities > 0.9, 0.1, 1.0)  # so that what is less likely counts more
    assert find_safe_threshold(probabilities, hits, heavy) >= threshold


def test_without_closed_questions_nothing_is_fitted():
    rows = [row for row in load_demo()["train"] if row.question is None]
    assert fit_decisions(None, None, rows, [], None) is None


def test_the_temperature_makes_probabilities_as_large_as_the_share_that_is_right():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(4000, 3))
    weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    right = np.array([generator.choice(3, p=row) for row in weights])
    assert fit_temperature(3 * scores, right) == pytest.approx(3.0, rel=0.1)


@pytest.mark.parametrize(("decisions", "least", "most"), [(20, 0.94, 0.96), (200, 0.992, 0.997)])
def test_few_decisions_that_are_all_right_do_not_make_it_certain(decisions, least, most):
    scores, right = np.tile([0.0, -3.0], (decisions, 1)), np.zeros(decisions, int)
    odds = 3.0 / fit_temperature(scores, right)
    assert least < 1 / (1 + np.exp(-odds)) < most  # (n + 1) / (n + 2)


def test_the_threshold_is_the_least_probability_of_the_wanted_precision():
    probabilities = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    assert find_threshold(probabilities, np.array([1, 1, 0, 1, 0], bool), 0.75) == 0.6
    assert find_threshold(probabilities, np.zeros(5, bool), 0.75) == 1.0
    assert find_threshold(probabilities, np.ones(5, bool), 0.75) == min(probabilities)
    assert find_threshold(np.array([0.9, 0.99]), np.ones(2, bool), 0.75) == 0.75


def test_decisions_of_one_probability_are_sure_together_or_not_at_all():
    probabilities, hits = np.array([0.99, 0.99, 0.9, 0.9, 0.9, 0.9]), np.array([1, 1, 1, 0, 0, 0], bool)
    assert find_threshold(probabilities, hits, 0.75) == 0.99  # and not 0.9, from which on half are right
    saturated = np.repeat([1.0, 0.5], 40)
    assert find_safe_threshold(saturated, np.concatenate([np.ones(40, bool), np.arange(40) < 20])) == 1.0


RATE = 16_000
TIMES = np.arange(10 * RATE) / RATE


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    audio = load_corpus("demo", ["short"]).audio
    return [audio[name].load(RATE, 10)[0] for name in sorted(audio)[:32]]


@pytest.fixture(scope="module")
def reference(clips: list[np.ndarray]) -> MusicReference:
    found = fit_reference(clips[:24], clips[:24], RATE)
    assert found is not None
    return found


def test_clips_that_were_not_fitted_on_are_music_at_any_level(clips: list[np.ndarray], reference) -> None:
    for clip in clips[24:]:
        assert all(reference.is_music(torch.from_numpy(gain * clip), RATE) for gain in (0.03, 1.0, 10.0))


def test_noise_and_tones_are_no_music(reference: MusicReference) -> None:
    random = np.random.default_rng(9)
    tone = np.sin(2 * np.pi * 440 * TIMES)
    for wave in (random.normal(size=10 * RATE), random.normal(size=10 * RATE).cumsum(), tone, np.sign(tone)):
        assert not reference.is_music(torch.from_numpy(wave - wave.mean()), RATE)


def test_short_sounds_are_judged_as_long_ones(clips: list[np.ndarray], reference: MusicReference) -> None:
    assert reference.is_music(torch.from_numpy(clips[30][: 2 * RATE]), RATE)
    assert not reference.is_music(torch.from_numpy(np.random.default_rng(0).normal(size=RATE)), RATE)
    assert np.isfinite(describe_sound(measure_bands(torch.from_numpy(clips[30][: RATE // 2]), RATE))).all()


def test_fitting_again_gives_the_same(clips: list[np.ndarray], reference: MusicReference) -> None:
    assert asdict(fit_reference(clips[:24], clips[:24], RATE)) == asdict(reference)


def test_the_limit_leaves_nearly_all_validation_clips(clips: list[np.ndarray], reference: MusicReference) -> None:
    noise = list(np.random.default_rng(0).normal(size=(5, RATE)))
    raised = fit_reference(clips[:24], noise, RATE)
    assert replace(raised, limit=0.0) == replace(reference, limit=0.0) and raised.limit > 0.3


def test_without_clips_nothing_is_fitted() -> None:
    assert fit_reference([], [], RATE) is None


def test_made_sounds_fill_ten_seconds_at_any_rate() -> None:
    for wave in make_sounds(24_000, 2):
        assert wave.shape == (240_000,) and np.isfinite(wave).all() and np.abs(wave).max() == pytest.approx(1.0)
