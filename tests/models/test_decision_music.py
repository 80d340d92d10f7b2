"""Typed questions: which type they are, the sentences that state an option, and scores equal to those of `forward`."""

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tiny import build_tiny_model, save_tiny_adapter, save_tiny_model
from tiny_mert_lm import join_tiny, save_parts
from transformers import PreTrainedModel, ProcessorMixin

import descant.models
from descant.answering.model_folder import load_model
from descant.models.lp_music_caps import answer_tree
from descant.models.lp_music_caps.answer_tree import HiddenUnits, build_tree, load_units, pool_states, read_hidden
from descant.models.lp_music_caps.decision_file import are_close, compute_outputs, write_settings
from descant.models.lp_music_caps.decision_music import (
    MusicDecisionConfig,
    QuestionType,
    answer_question,
    pool_windows,
    prepare_windows,
)
from descant.models.lp_music_caps.sound_input import cut_track
from descant.models.lp_music_caps.track_music import (
    MusicReference,
    describe_sound,
    mark_contradictions,
    measure_bands,
    name_unknown,
)

GENRE = QuestionType(
    questions=["What is the genre?", "Which genre is this?"],
    answers={"jazz": ["It is jazz.", "Jazz is played."], "hip-hop": ["It is hip-hop."], "rock": ["It is rock."]},
    synonyms={"hip-hop": ["rap"]},
    carriers=["It is a {option} song."],
    temperature=2.0,
    threshold=0.5,
)
DRUMS = QuestionType(
    questions=["Are there drums?", "Does a drummer play?"],
    answers={"drums": ["Yes, drums."], "no drums": ["No, no drums."]},
    synonyms={"drums": ["percussion"], "no drums": ["no percussion"]},
)
BASS = QuestionType(
    questions=["Which bass plays?"],
    answers={"upright bass": ["An upright bass."], "synth bass": ["A synth bass."], "no bass": ["No bass."]},
)
TYPES = {"genre": GENRE, "drums": DRUMS, "bass": BASS}


@pytest.fixture
def config() -> MusicDecisionConfig:
    return MusicDecisionConfig(question_types={name: asdict(kind) for name, kind in TYPES.items()})


def choice(instructions: str | None, *options: str) -> dict:
    return {"type": "choice", "instructions": instructions, "criteria": dict.fromkeys(options)}


@pytest.fixture(scope="module", params=["lp_music_caps", "mert_lm"])
def built(request: pytest.FixtureRequest, tmp_path_factory) -> tuple[PreTrainedModel, ProcessorMixin]:
    if request.param == "lp_music_caps":
        return build_tiny_model()
    return join_tiny(save_parts(tmp_path_factory.mktemp("parts")))


def test_a_tree_gives_options_the_probabilities_that_forward_gives_their_sentences(built):
    model, processor = built
    texts = [["a slow piano", "the loud piano"], ["a slow guitar", "jazz rock", "the loud jazz"], ["drums"]]
    rate = processor.feature_extractor.sampling_rate
    waves = [0.1 * np.random.default_rng(seed).normal(size=rate // 2).astype(np.float32) for seed in range(2)]
    features = processor(audio=waves, text=["What is the genre?"] * 2, sampling_rate=rate, return_tensors="pt")
    prompts = [processor.prompt_ids(text) for text in ("What is the genre?", "Genre?")]
    tokens = [processor.answer_ids(option) for option in texts]
    (scores,) = model.score_options(features["input_features"], [prompts], [build_tree(tokens)])

    expected = []
    for prompt in prompts:
        sums = torch.stack([
            torch.stack([sentence_score(model, features["input_features"], prompt, prefix) for prefix in option])
            .logsumexp(dim=0) for option in deciding_prefixes(tokens)
        ], dim=1)  # fmt: skip
        expected.append(sums.log_softmax(dim=1))
    torch.testing.assert_close(scores, torch.stack(expected).mean(dim=0), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(scores[0], scores[1], atol=1e-3), "or the test says nothing: both windows sound alike"


def test_a_large_tree_is_read_in_parts_and_alike(built, monkeypatch):
    model, processor = built
    texts = [["a slow piano", "the loud piano"], ["a slow guitar", "jazz rock", "the loud jazz"], ["drums"]]
    tokens = [processor.answer_ids(option) for option in texts]
    shifts = [[0.5, -0.5], [1.0, 0.0, -2.0], [0.25]]
    trees = [build_tree(tokens, shifts), build_tree(tokens[1:])]
    prompts = [[processor.prompt_ids(text) for text in asked] for asked in (("Which genre?", "Genre?"), ("So?",))]
    rate = processor.feature_extractor.sampling_rate
    waves = [0.1 * np.random.default_rng(seed).normal(size=rate // 2).astype(np.float32) for seed in range(2)]
    features = prepare_windows(waves, processor)
    whole = model.score_options(features, prompts, trees)
    monkeypatch.setattr(answer_tree, "NODES_AT_ONCE", 3)
    parts = [tree.split() for tree in trees]
    assert len(parts[0]) > 1 and max(len(part.tokens) for part in parts[0]) < len(trees[0].tokens)
    assert torch.cat([part.options for part in parts[0]]).tolist() == trees[0].options.tolist()
    for scores, expected in zip(model.score_options(features, prompts, trees), whole, strict=True):
        torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-5)


def deciding_prefixes(tokens: list[list[list[int]]]) -> list[set[tuple[int, ...]]]:
    """The definition, written plainly: the shortest beginnings that are of one option's sentences alone."""
    kept: list[set[tuple[int, ...]]] = []
    for option, rows in enumerate(tokens):
        others = [row for number, more in enumerate(tokens) if number != option for row in more]
        kept.append({shortest_beginning(row, others) for row in rows})
    return kept


def shortest_beginning(row: list[int], others: list[list[int]]) -> tuple[int, ...]:
    ends = range(1, len(row) + 1)
    return next(tuple(row[:end]) for end in ends if row[:end] not in [other[:end] for other in others])


@torch.no_grad()
def sentence_score(model, features: torch.Tensor, prompt: list[int], prefix: tuple[int, ...]) -> torch.Tensor:
    labels = torch.tensor([prefix] * len(features))
    prompts = torch.tensor([prompt] * len(features))
    start = torch.full((len(features), 1), model.config.decoder_start_token_id)
    inputs = torch.cat([start, labels[:, :-1]], dim=1)
    outputs = model(input_features=features, prompt_input_ids=prompts, prompt_attention_mask=torch.ones_like(prompts),
                    labels=labels, decoder_input_ids=inputs)  # fmt: skip
    return outputs.logits.log_softmax(dim=-1).gather(2, labels[..., None])[..., 0].sum(dim=1)


@pytest.mark.parametrize(
    ("question", "type_name"),
    [
        (choice("Which genre is this?", "jazz", "polka"), "genre"),  # the wording of a training question
        (choice("Pick the best", "Jazz", "RAP", "polka"), "genre"),  # most options
        (choice("What genre would you call it?", "polka", "tango"), "genre"),  # the type's name
        (choice("Is it rock or acoustic?", "rock", "acoustic"), None),  # half of the options are no majority
        (choice("How old is the singer?", "young", "old"), None),
        ({"type": "noul", "instructions": "Is it a rock song?"}, "genre"),  # an option that is mentioned
        ({"type": "noul", "instructions": "Is there any percussion at all?"}, "drums"),
        ({"type": "noul", "instructions": "Is there a singer?"}, None),
        ({"type": "noul", "instructions": "Is there rock in it?"}, None),  # genre cannot say that there is none
        ({"type": "score", "instructions": "x", "criteria": ["jazz", "rock"]}, "genre"),
    ],
)
def test_the_type_of_a_question_is_found(config, question, type_name):
    (planned,) = config.plan({"asked": question})
    assert planned.type_name == type_name


def test_options_are_stated_by_their_own_sentences_or_by_carriers(config):
    (planned,) = config.plan({"genre": choice("What is the genre?", "Rap", "indie", "jazz")})
    assert planned.sentences == [["It is hip-hop."], ["It is an indie song."], ["It is jazz.", "Jazz is played."]]
    assert not planned.known
    assert name_unknown(planned) == {"unknown": ["indie"]}
    (known,) = config.plan({"genre": choice("What is the genre?", "rap", "jazz")})
    assert known.known and name_unknown(known) == {}


@pytest.mark.parametrize(
    ("asked", "yes"),
    [
        ("Are there drums?", ["Yes, drums."]),
        ("Is there no percussion?", ["No, no drums."]),
        ("Does a drummer play?", ["Yes, drums."]),
        ("Is it rap?", ["It is hip-hop."]),
        ("Which bass plays?", ["An upright bass.", "A synth bass."]),
    ],
)
def test_yes_is_what_a_question_mentions_or_that_there_is_something(config, asked, yes):
    (planned,) = config.plan({"asked": {"type": "noul", "instructions": asked}})
    assert planned.sentences[planned.question.options.index("true")] == yes


def test_more_options_than_the_alphabet_has_letters_are_taken(config):
    options = [f"genre {number}" for number in range(40)]
    assert len(config.plan({"genre": choice("What is the genre?", *options)})[0].sentences) == 40


def test_shifts_are_added_to_the_sentences_of_their_option(built, config):
    model, processor = built
    texts = [["a slow piano"], ["jazz rock"]]
    rate = processor.feature_extractor.sampling_rate
    wave = 0.1 * np.random.default_rng(0).normal(size=rate // 2).astype(np.float32)
    features = processor(audio=[wave], sampling_rate=rate, return_tensors="pt")["input_features"]
    prompts = [[processor.prompt_ids("What is the genre?")]]
    tokens = [processor.answer_ids(option) for option in texts]
    plain, shifted = (model.score_options(features, prompts, [build_tree(tokens, shifts)])[0]
                      for shifts in (None, [[0.0], [1.5]]))  # fmt: skip
    expected = (plain + torch.tensor([0.0, 1.5])).log_softmax(dim=1)
    torch.testing.assert_close(shifted, expected, atol=1e-4, rtol=1e-4)

    config.question_types["drums"]["shifts"] = {"no drums": -1.0}
    (planned,) = config.plan({"drums": {"type": "noul", "instructions": "Is there any percussion?"}})
    yes = planned.question.options.index("true")
    assert planned.shifts[yes] == [0.0] and planned.shifts[1 - yes] == [-1.0]


def test_probes_add_what_the_audio_states_say_of_an_option(built):
    model, processor = built
    texts = [["a slow piano", "a piano"], ["jazz rock"]]
    rate = processor.feature_extractor.sampling_rate
    waves = [0.1 * np.random.default_rng(seed).normal(size=rate // 2).astype(np.float32) for seed in range(2)]
    features = processor(audio=waves, sampling_rate=rate, return_tensors="pt")["input_features"]
    states = model.read_probed(features)
    pooled = pool_states(model.get_audio_features(features).detach())
    torch.testing.assert_close(states[:, : pooled.shape[1]], pooled)
    probe = np.random.default_rng(0).normal(size=(2, states.shape[1] + 1)).round(3)
    tokens = [processor.answer_ids(option) for option in texts]
    prompts = [[processor.prompt_ids(text) for text in ("What is the genre?", "Genre?")]]
    weights = [[row.tolist()] * len(option) for row, option in zip(probe, texts, strict=True)]
    (probed,) = model.score_options(features, prompts, [build_tree(tokens, None, weights)])
    plain = [model.score_options(features, [[one]], [build_tree(tokens)])[0] for one in prompts[0]]
    added = states @ torch.from_numpy(probe[:, :-1]).float().T + torch.from_numpy(probe[:, -1]).float()
    expected = torch.stack([(scores + added).log_softmax(dim=1) for scores in plain]).mean(dim=0)
    torch.testing.assert_close(probed, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(added[0] - added[0].mean(), added[1] - added[1].mean(), atol=1e-3)  # or nothing is shown

    other = [[[0.0, 1.0, 2.0]] * len(option) for option in texts]
    with pytest.raises(ValueError, match=rf"3 numbers for {states.shape[1]} audio states"):
        model.score_options(features, prompts, [build_tree(tokens, None, other)])


def test_probes_read_hidden_units_in_place_of_the_encoders_states(built, tmp_path):
    model, processor = built
    rate = processor.feature_extractor.sampling_rate
    wave = 0.1 * np.random.default_rng(0).normal(size=rate // 2).astype(np.float32)
    features = processor(audio=[wave], sampling_rate=rate, return_tensors="pt")["input_features"]
    states = model.read_probed(features)
    numbers = torch.randn(3, 6, generator=torch.Generator().manual_seed(0)).half().float()
    MusicDecisionConfig(hidden=HiddenUnits(numbers).to_text()).save_pretrained(tmp_path)
    hidden = load_units(MusicDecisionConfig.from_pretrained(tmp_path).hidden)
    assert torch.equal(hidden.weights, numbers)
    units = torch.nn.functional.gelu(states[:, -5:].clamp(-5, 5) @ numbers[:, :-1].T + numbers[:, -1])
    expected = torch.cat([states[:, :-5], units], dim=1)
    tokens, prompts = [processor.answer_ids([text]) for text in ("jazz", "rock")], [[processor.prompt_ids("Genre?")]]
    probe = np.random.default_rng(0).normal(size=(2, expected.shape[1] + 1))
    tree = build_tree(tokens, None, [[row.tolist()] for row in probe], hidden)
    torch.testing.assert_close(read_hidden(states, [tree]), expected)
    (probed,) = model.score_options(features, prompts, [tree])
    (plain,) = model.score_options(features, prompts, [build_tree(tokens)])
    added = expected @ torch.from_numpy(probe[:, :-1]).float().T + torch.from_numpy(probe[:, -1]).float()
    torch.testing.assert_close(probed, (plain + added).log_softmax(dim=1), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="hidden units above 9999 audio states"):
        HiddenUnits(torch.zeros(1, 10_000)).read(states)


def test_probes_say_nothing_where_an_option_is_not_of_the_type(config):
    config.question_types["genre"]["probe"] = {"jazz": [1.0, 2.0], "rock": [3.0, 4.0], "hip-hop": [5.0, 6.0]}
    (known,) = config.plan({"genre": choice("What is the genre?", "rap", "jazz")})
    assert known.weights == [[[5.0, 6.0]], [[1.0, 2.0], [1.0, 2.0]]]
    (mixed,) = config.plan({"genre": choice("What is the genre?", "rap", "indie")})
    assert mixed.weights == [[[]], [[]]]
    (yes,) = config.plan({"rock": {"type": "noul", "instructions": "Is it a rock song?"}})
    assert yes.weights[yes.question.options.index("true")] == [[3.0, 4.0]]


def test_a_short_window_is_repeated_and_not_filled_with_silence(built):
    _, processor = built
    extractor = processor.feature_extractor
    wave = 0.1 * np.random.default_rng(0).normal(size=extractor.sampling_rate // 2).astype(np.float32)
    size = round(extractor.window_s * extractor.sampling_rate)
    long = np.tile(wave, size // len(wave) + 1)[:size]
    torch.testing.assert_close(prepare_windows([wave], processor), prepare_windows([long], processor))


def test_a_tree_adds_up_what_a_model_on_another_device_gives():
    tree = build_tree([[[5, 6]], [[5, 7], [8, 9]]], weights=[[[0.1, 0.2, 0.3]], [[0.1, 0.2, 0.3]] * 2])
    log_probs, states = torch.empty(4, 2, 20, device="meta"), torch.empty(4, 2, device="meta")
    scores = tree.gather(tree.read_paths(log_probs), states)
    assert scores.shape == (4, 2) and scores.device.type == "meta"


def test_two_options_of_one_sentence_are_refused():
    with pytest.raises(ValueError, match="two options are stated by the same sentence"):
        build_tree([[[1, 2]], [[1, 2]]])


def test_a_question_that_is_none_is_refused(config):
    with pytest.raises(ValueError, match="genre"):
        config.plan({"genre": {"type": "colour"}})


def test_an_answer_is_sure_from_its_threshold_on(config):
    (planned,) = config.plan({"genre": choice("What is the genre?", "jazz", "rock")})
    surer = answer_question(planned, torch.tensor([0.6, 0.4]).log())
    assert surer["choice"] == "jazz" and surer["probabilities"]["jazz"] == pytest.approx(0.6) and surer["sure"]
    planned.type.threshold = 0.7
    assert not answer_question(planned, torch.tensor([0.6, 0.4]).log())["sure"]


def test_a_type_absent_from_training_is_never_sure(config):
    (planned,) = config.plan({"age": choice("How old is the singer?", "young", "old")})
    assert answer_question(planned, None) | {"confidence": 0} == {
        "type": "choice", "choice": "young", "confidence": 0, "probabilities": {"young": 0.5, "old": 0.5},
        "sure": False, "reason": "unlike training",
    }  # fmt: skip


def test_windows_are_pooled_by_the_geometric_mean():
    scores = torch.tensor([[0.8, 0.2], [0.2, 0.8], [0.8, 0.2]]).log()
    assert pool_windows(scores).exp().tolist() == pytest.approx([0.61351, 0.38649], abs=1e-5)


def test_settings_survive_saving(config, tmp_path):
    config.reference = {"mean": [0.0], "spread": [1.0], "centres": [[0.5]], "weights": [1.0], "limit": 1.0}
    config.question_types["genre"]["probe"] = {"jazz": [1.5, -2e-07], "rock": [0.0, 3.25]}
    config.save_pretrained(tmp_path)
    assert '"jazz": [ 1.5, -2e-07 ]' in (tmp_path / "decision.json").read_text()
    loaded = MusicDecisionConfig.from_pretrained(str(tmp_path))
    assert loaded.types() == config.types() and loaded.reference == config.reference
    assert loaded.question_types and loaded.reference


def test_the_description_of_a_sound_does_not_depend_on_its_level():
    wave = torch.from_numpy(np.random.default_rng(0).normal(size=16_000).astype(np.float32))
    loud, soft = (describe_sound(measure_bands(gain * wave, 16_000)) for gain in (1.0, 0.01))
    assert loud.shape == (91,)
    np.testing.assert_allclose(loud, soft, atol=1e-3)


def test_what_lies_near_the_centres_of_music_is_music():
    times = torch.arange(16_000) / 16_000
    tone, noise = torch.sin(2 * torch.pi * 440 * times), torch.from_numpy(np.random.default_rng(0).normal(size=16_000))
    centres = [describe_sound(measure_bands(one, 16_000)).tolist() for one in (tone, noise)]
    reference = MusicReference([0.0] * 91, [1.0] * 91, centres, weights=[-1.0, 1.0], limit=0.0)
    assert reference.score(np.array(centres[0])) == pytest.approx(-1.0, abs=1e-3)
    assert reference.is_music(0.1 * tone, 16_000) and not reference.is_music(noise, 16_000)


@pytest.mark.parametrize(
    "name", ["answer_tree.py", "decision_file.py", "decision_music.py", "track_music.py", "pipeline_music.py"]
)
def test_all_model_folders_hold_the_same_file(name):
    copies = sorted(Path(descant.models.__path__[0]).glob(f"*/{name}"))
    assert len(copies) == 2 and len({copy.read_bytes() for copy in copies}) == 1


@pytest.mark.parametrize(
    ("seconds", "count", "spans"),
    [
        (7, 12, [(0, 7)]),
        (26, 12, [(0, 10), (10, 20), (20, 26)]),
        (23, 12, [(0, 10), (10, 20), (13, 23)]),  # a last window under 5 s is the last 10 s
        (100, 2, [(20, 30), (70, 80)]),
        (100, None, [(start, start + 10) for start in range(0, 100, 10)]),
    ],
)
def test_a_track_is_cut_into_windows_spread_evenly(seconds, count, spans):
    windows = cut_track(np.arange(seconds * 100, dtype=np.float32), 100, 10.0, count)
    assert [window[:2] for window in windows] == spans
    assert all(window[2][0] == round(window[0] * 100) for window in windows)
    with pytest.raises(ValueError, match="hear is 0: give how many"):
        cut_track(np.ones(1000, np.float32), 100, 10.0, 0)


def test_answers_that_cannot_both_be_true_are_named_and_the_less_likely_one_is_not_sure(config):
    questions = {
        "drums": {"type": "noul", "instructions": "Are there drums?"},
        "leads": choice("What leads?", "drums", "piano"),
    }
    planned = {one.name: one for one in config.plan(questions)}
    answers = {
        "drums": {"type": "noul", "noul": 0.1, "sure": True},
        "leads": {"type": "choice", "choice": "drums", "probabilities": {"drums": 0.7, "piano": 0.3}, "sure": True},
    }
    mark_contradictions(answers, planned)
    assert answers["drums"]["contradicts"] == ["leads"] and answers["leads"]["contradicts"] == ["drums"]
    assert answers["drums"]["sure"] and not answers["leads"]["sure"]
    answers["drums"] = {"type": "noul", "noul": 0.9, "sure": True}
    del answers["leads"]["contradicts"]
    mark_contradictions(answers, planned)
    assert "contradicts" not in answers["leads"]


def test_somebody_and_nobody_do_not_sing_at_once(config):
    planned = {one.name: one for one in config.plan({"who": choice("Who?", "no voice", "female"), "what": choice(
        "What?", "vocals", "no vocals")})}  # fmt: skip
    for likely, less_likely in (("who", "what"), ("what", "who")):
        answers = {
            "who": {"type": "choice", "probabilities": {"no voice": 0.7, "female": 0.3}, "sure": True},
            "what": {"type": "choice", "probabilities": {"vocals": 0.8, "no vocals": 0.2}, "sure": True},
        }
        if likely == "who":
            answers["who"]["probabilities"] = {"no voice": 0.9, "female": 0.1}
        mark_contradictions(answers, planned)
        assert answers["who"]["contradicts"] == ["what"] and answers["what"]["contradicts"] == ["who"]
        assert answers[likely]["sure"] and not answers[less_likely]["sure"]
    answers["who"] = {"type": "choice", "probabilities": {"no voice": 0.1, "female": 0.9}, "sure": True}
    mark_contradictions(answers, planned)
    assert "contradicts" not in answers["who"]


def test_decision_settings_travel_with_a_model(built, config, tmp_path):
    model, processor = built
    model.decision_config = config
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForMultimodalLM.from_pretrained(tmp_path)
    assert loaded.decision_config.question_types == config.question_types
    (tmp_path / "decision.json").unlink()
    assert transformers.AutoModelForMultimodalLM.from_pretrained(tmp_path).decision_config is None
    model.decision_config = None


def test_settings_that_were_fitted_for_other_weights_are_left_out(built, config, tmp_path, caplog):
    model, folders = built[0], [tmp_path / name for name in ("fitted", "bf16", "trained")]
    load = transformers.AutoModelForMultimodalLM.from_pretrained
    model.decision_config, config.fitted_for = config, model.fingerprint()
    model.save_pretrained(folders[0])
    model.decision_config = None
    load(folders[0], dtype=torch.bfloat16).save_pretrained(folders[1])
    assert load(folders[1]).decision_config.fitted_for == config.fitted_for
    assert not caplog.records
    trained = load(folders[0])
    weights = [weight for weight in trained.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    sum(weight.sin().sum() for weight in weights).backward()
    optimizer.step()
    trained.save_pretrained(folders[2])
    assert f"{folders[2]}: decision.json was fitted for other weights" in caplog.text
    assert not (folders[2] / "decision.json").exists()
    shutil.copy(folders[0] / "decision.json", folders[2])
    caplog.clear()
    assert load(folders[2]).decision_config is None
    assert f"{folders[2]}: decision.json was fitted for other weights" in caplog.text
    older = json.loads((folders[0] / "decision.json").read_text())
    older["fitted_for"].popitem()  # a layer that the model had not then
    (folders[0] / "decision.json").write_text(json.dumps(older))
    assert load(folders[0]).decision_config is None
    del older["fitted_for"]
    (folders[2] / "decision.json").write_text(json.dumps(older))
    assert load(folders[2]).decision_config.question_types == config.question_types


def test_settings_that_were_fitted_for_another_encoder_of_the_same_width_are_left_out(config, tmp_path, caplog):
    model, _ = join_tiny(save_parts(tmp_path / "parts"))
    config.fitted_for = model.fingerprint()
    model.decision_config = config
    encoders = [{name: weight.clone() for name, weight in model.audio_encoder.state_dict().items()}]
    encoders.append({name: weight.bfloat16().float() for name, weight in encoders[0].items()})
    other = torch.Generator().manual_seed(5)
    encoders.append({
        name: weight[torch.randperm(len(weight), generator=other)] if weight.ndim > 1 else weight
        for name, weight in encoders[0].items()
    })  # fmt: skip
    for name, weights in zip(("same", "rounded", "other"), encoders, strict=True):
        model.audio_encoder.load_state_dict(weights)
        model.save_pretrained(tmp_path / name)
        assert (tmp_path / name / "decision.json").exists() == (name != "other"), name
    assert "decision.json was fitted for other weights" in caplog.text


def test_a_file_of_settings_is_the_old_one_until_the_new_one_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "decision.json"
    write_settings(path, {"precision": 0.8, "numbers": [1.5, 2.0]})
    before = path.read_text()
    assert before == '{\n  "precision": 0.8,\n  "numbers": [ 1.5, 2.0 ]\n}\n'

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_settings(path, {"precision": 0.9})
    assert path.read_text() == before and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (choice("Which genre is this?", "jazz"), "one option is no choice: give two or more"),
        (choice("Which year is it from?", "1990"), "one option is no choice: give two or more"),
        ({"type": "score", "instructions": "How fast?", "criteria": ["slow"]}, "one option is no choice"),
        (choice("Which genre is this?", "polka", "Polka", "jazz"), "'polka' and 'Polka' are the same option"),
        (choice("Which genre is this?", "neo-soul", "neo soul ", "jazz"), "'neo-soul' and 'neo soul ' are the same"),
        (choice("Which genre is this?", "rap", "hip-hop", "jazz"), "'rap' and 'hip-hop' are the same"),
        ({"type": "score", "instructions": "Fast?", "criteria": ["slow", "fast", "Slow"]}, "'slow' and 'Slow' are"),
        (choice("Which genre is this?", " ", "jazz"), "an option is empty: give each a name"),
    ],
)  # fmt: skip
def test_options_among_which_there_is_nothing_to_choose_are_refused_by_name(config, question, reason):
    with pytest.raises(ValueError, match=re.escape(f"Question 'mine': {reason}")) as refused:
        config.plan({"mine": question})
    assert "\n" not in str(refused.value)


def test_options_that_only_look_alike_are_asked(config):
    config.plan({"key": choice("Which key?", "C", "C#", "c minor"), "change": choice("Change?", "-1", "1", "+1")})


def test_an_adapter_counts_as_weights_whether_it_is_merged_or_not(tmp_path):
    base = save_tiny_model(tmp_path / "base")
    adapter = save_tiny_adapter(base, tmp_path / "adapter")
    apart = transformers.AutoModelForMultimodalLM.from_pretrained(adapter)
    assert apart.peft_model is not None, "or the test says nothing"
    known = apart.fingerprint()
    merged, plain = (load_model(folder)[0].fingerprint() for folder in (adapter, base))
    assert known and merged.keys() == known.keys()
    for name, outputs in merged.items():
        assert are_close(known[name], outputs) and not are_close(plain[name], outputs), name


def test_layers_whose_weights_are_not_at_hand_say_nothing():
    with torch.device("meta"):
        layer = torch.nn.Linear(4, 4)
    assert compute_outputs(layer) == []
    quantised = torch.nn.Linear(4, 4)
    quantised.weight = torch.nn.Parameter(torch.ones(4, 4, dtype=torch.uint8), requires_grad=False)
    assert compute_outputs(quantised) == []
    assert len(compute_outputs(torch.nn.Linear(3, 100))) == 8
