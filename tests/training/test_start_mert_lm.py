"""Where MertLM training starts from: tiny parts for the demo, given ones else, and refusals that name the setting."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_mert_lm import join_tiny, save_parts
from transformers import AutoModelForMultimodalLM, AutoProcessor, PreTrainedModel

from descant.data.annotations import Row
from descant.data.corpus import load_corpus
from descant.models.mert_lm.processing_mert_lm import AUDIO_TOKEN
from descant.training import start_mert_lm
from descant.training.recipe import MertLMOptions
from descant.training.start import start_model
from descant.training.start_mert_lm import (
    adapt,
    add_words,
    answer_loss,
    build,
    closed_targets,
    deal_types,
    embed_answers,
    embed_distinctive,
    embed_questions,
    factorise,
    fit_projector,
    new_tiny,
    rows_to_fit,
    train_chat_tokenizer,
    warm_up_branch,
)
from descant.training.training_data import TokenizedRows

JOINED = {"layer_mix": "learned", "pooling": "stride", "pool_stride": 15, "projector": "mlp", "tokens_per_state": 2}


def test_the_demo_joins_tiny_random_parts_the_same_for_the_same_seed():
    (one, processor), (other, _) = (
        start_model(None, start_mert_lm, MertLMOptions(**JOINED), ["some text"], seed=0, demo=True) for _ in range(2)
    )
    weights = other.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in one.state_dict().items())
    assert one.config.text_model_id is None and sum(p.numel() for p in one.parameters()) < 500_000
    assert processor.feature_extractor.window_s == 10.0


def test_given_parts_are_joined_as_the_options_say(tmp_path):
    encoder, language_model = save_parts(tmp_path)
    model, _ = build(MertLMOptions(**JOINED, audio_encoder=encoder, text_model=language_model), [], demo=True)
    assert {name: getattr(model.config, name) for name in JOINED} == JOINED
    assert (model.config.audio_model_id, model.config.text_model_id) == (encoder, language_model)


def test_one_part_without_the_other_is_refused():
    with pytest.raises(ValueError, match="pass --audio_encoder and --text_model"):
        build(MertLMOptions(audio_encoder="some/encoder"), [], demo=True)
    with pytest.raises(ValueError, match="pass --audio_encoder and --text_model"):
        build(MertLMOptions(), [], demo=False)


def test_a_part_out_of_reach_is_named(tmp_path):
    options = MertLMOptions(audio_encoder=str(tmp_path / "none"), text_model=str(tmp_path / "none"))
    with pytest.raises(ValueError, match="--audio_encoder .*none, --text_model .*none: cannot be loaded"):
        build(options, [], demo=False)


def heard_of(rows: list[Row]) -> SimpleNamespace:
    """A feature store: like states where all answers are alike, far from 0, which is what clips have in common."""
    answers = {row.clip_id: tuple(one.answer for one in rows if one.clip_id == row.clip_id) for row in rows}
    torch.manual_seed(0)
    heard = {answer: 30 + torch.randn(1, 1, 32) for answer in sorted(set(answers.values()))}
    states = {clip: (heard[answer] + 0.1 * torch.randn(1, 1, 32)).numpy() for clip, answer in answers.items()}
    return SimpleNamespace(read=states.__getitem__)


def fitted(
    tmp_path: Path, rows: list[Row], projector: str, tokens: int, **settings: object
) -> tuple[PreTrainedModel, TokenizedRows]:
    """A model with a projector that was fitted to `rows`, and what each clip's first row sounds like to it."""
    settings |= {"pooling": "mean", "projector": projector, "tokens_per_state": tokens}
    model, processor = join_tiny(save_parts(tmp_path), **settings)
    data = SimpleNamespace(rows=TokenizedRows(rows, processor), features=heard_of(rows))
    fit_projector(model, data.rows, data.features)
    return model, data


ANSWERS = ["a slow piano", "jazz rock", "loud drums", "a loud guitar"] * 8


@pytest.mark.parametrize(("projector", "size"), [("linear", None), ("linear", 8), ("mlp", None)])
def test_a_projector_starts_on_standardised_states_and_near_the_words_of_the_answers(tmp_path, projector, size):
    rows = [Row(f"c{n:02}", None, answer, None, "own", 0, 10) for n, answer in enumerate(ANSWERS)]
    model, data = fitted(tmp_path, rows, projector, tokens=1, projector_size=size)
    all_states = torch.from_numpy(np.stack([data.features.read(row.clip_id) for row in rows]))
    standard = ((all_states[:, 0, 0] - model.projector.mean) / model.projector.spread).detach()
    torch.testing.assert_close(standard.mean(dim=0), torch.zeros(32), atol=1e-3, rtol=0)
    torch.testing.assert_close(standard.std(dim=0), torch.ones(32), atol=1e-3, rtol=0)
    if projector == "linear":
        assert likest(model, data, all_states, token=0, kinds=set()) == ANSWERS


def test_each_token_of_a_state_starts_near_the_answers_to_its_type_of_question(tmp_path):
    genres = ["jazz rock", "a loud guitar"] * 16
    kinds = {"genre": genres, "instruments": ANSWERS}
    rows = [
        Row(f"c{n:02}", "What?", answers[n], kind, "own", 0, 10) for n in range(32) for kind, answers in kinds.items()
    ]
    model, data = fitted(tmp_path, rows, "linear", tokens=3)
    all_states = torch.from_numpy(np.stack([data.features.read(row.clip_id) for row in rows[::2]]))
    assert likest(model, data, all_states, token=1, kinds={"genre"}) == genres
    assert likest(model, data, all_states, token=2, kinds={"instruments"}) == ANSWERS


def test_a_layer_in_two_parts_gives_what_varies_most():
    torch.manual_seed(0)
    states, weight = torch.randn(200, 12), torch.randn(30, 3) @ torch.randn(3, 12) + 0.01 * torch.randn(30, 12)
    last, first = factorise(weight, states, rank=3)
    assert (last.shape, first.shape) == ((30, 3), (3, 12))
    torch.testing.assert_close(states @ first.T @ last.T, states @ weight.T, atol=0.3, rtol=0)
    last, first = factorise(weight, states, rank=12)
    torch.testing.assert_close(last @ first, weight, atol=1e-3, rtol=0)


def likest(model: PreTrainedModel, data: SimpleNamespace, states: torch.Tensor, token: int, kinds: set) -> list[str]:
    """For each clip, the answer whose words are most like what a token of its state says."""
    _, words = embed_answers(model.get_input_embeddings(), data.rows, kinds)
    answers = [row.answer for row in data.rows.rows if not kinds or row.question_type in kinds]
    given = model.get_audio_features(states)[:, token] - words.mean(dim=0)
    likeness = torch.nn.functional.cosine_similarity(given[:, None], (words - words.mean(dim=0))[None], dim=2)
    return [answers[place] for place in likeness.argmax(dim=1)]


def test_a_word_weighs_the_more_the_fewer_texts_have_it():
    embedding = torch.nn.Embedding.from_pretrained(torch.eye(5))
    found = embed_distinctive(embedding, [[0, 1, 2], [0, 1], [0, 3], [0, 0]])
    log2, log4 = np.log(2), np.log(4)
    torch.testing.assert_close(found[0], torch.tensor([0, log2, log4, 0, 0]).float() / (log2 + log4))
    assert found[1:].tolist() == [[0, 1, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]]


def test_a_type_s_topic_is_what_only_its_questions_say_and_as_long_as_a_word():
    embedding = torch.nn.Embedding.from_pretrained(2 * torch.eye(5))
    prompts = {"genre?": np.array([0, 9, 1]), "mood?": np.array([0, 9, 2]), None: np.array([0, 9, 3])}
    kinds = {"genre?": "genre", "mood?": "mood", None: None}
    rows = [Row("c", question, "That.", kind, "own", 0, 10) for question, kind in kinds.items()]
    topics = embed_questions(embedding, SimpleNamespace(rows=rows, prompts=prompts))
    assert list(topics) == ["genre", "mood"]
    assert (topics["genre"].tolist(), topics["mood"].tolist()) == ([0, 2, 0, 0, 0], [0, 0, 2, 0, 0])
    assert embed_questions(embedding, SimpleNamespace(rows=rows[2:], prompts=prompts)) == {}


def test_types_are_dealt_to_tokens_and_what_is_left_stands_for_all():
    rows = [Row("c", "What?", "That.", kind, "own", 0, 10) for kind in ("b", "a", "c", None)]
    assert deal_types(rows, 1) == [set()]
    assert deal_types(rows, 3) == [set(), {"a", "c"}, {"b"}]
    assert deal_types(rows, 5) == [set(), {"a"}, {"b"}, {"c"}, set()]
    assert deal_types(rows[-1:], 3) == [set(), set(), set()]


def test_captions_are_fitted_with_the_questions_about_the_same_training_clips(tmp_path):
    file = tmp_path / "own.csv"
    file.write_text(
        "audio,question,answer,split\nx.wav,Fast?,No.,train\ny.wav,Fast?,Yes.,train\nz.wav,Fast?,No.,test\n"
    )
    questions = load_corpus(str(file), ["short"]).rows("short", "train")
    captions = [Row(questions[0].clip_id, None, "A slow song.", None, "own", 0, 10)]
    assert rows_to_fit(captions, str(file), None) == [captions[0], questions[0]]
    file.write_text("audio,caption\nx.wav,A slow song.\n")
    assert rows_to_fit(captions, str(file), None) == captions


def test_the_tiny_tokenizer_chats():
    tokenizer = train_chat_tokenizer(["hello there"])
    text = tokenizer.apply_chat_template([{"role": "user", "content": "hello"}], tokenize=False)
    assert text == "<|im_start|>user\nhello<|im_end|>\n"
    assert tokenizer.decode(tokenizer("hello there")["input_ids"]) == "hello there"


def test_words_that_were_cut_get_a_token_each_and_others_stay_as_they_were(tmp_path):
    model, processor = new_tiny(["a slow song", "hello there"])
    before = processor.tokenizer("a slow hip-hop")["input_ids"]
    texts = [*["This is bebop."] * 6, *["It is hip-hop."] * 5, *["A rare jig."] * 4]
    pieces = processor.tokenizer(" bebop")["input_ids"]
    mean = model.get_input_embeddings().weight[pieces].mean(dim=0)
    assert add_words(model, processor, texts, most=4) == ["Ġis", "This", "Ġbebop", "It"]
    assert len(pieces) > 1
    assert len(processor.tokenizer(" jig")["input_ids"]) > 1
    assert processor.tokenizer("a slow hip-hop")["input_ids"] == before
    (bebop,) = processor.tokenizer(" bebop")["input_ids"]
    torch.testing.assert_close(model.get_input_embeddings().weight[bebop], mean)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path).tokenizer
    assert loaded("This is bebop.")["input_ids"] == processor.tokenizer("This is bebop.")["input_ids"]
    assert processor.tokenizer.convert_tokens_to_ids(AUDIO_TOKEN) == loaded.convert_tokens_to_ids(AUDIO_TOKEN)
    assert loaded.convert_tokens_to_ids(AUDIO_TOKEN) == model.config.audio_token_id
    prompt = AutoProcessor.from_pretrained(tmp_path).prompt_ids("This is bebop?")
    assert prompt == processor.prompt_ids("This is bebop?") and prompt.count(model.config.audio_token_id) > 0
    assert loaded.decode(loaded("This is bebop.")["input_ids"]) == "This is bebop."
    weight = AutoModelForMultimodalLM.from_pretrained(tmp_path).get_input_embeddings().weight
    torch.testing.assert_close(weight, model.get_input_embeddings().weight)


def test_new_words_that_would_take_the_numbers_of_special_tokens_are_refused():
    model, processor = new_tiny(["a slow song", "hello there"])
    model.resize_token_embeddings(len(processor.tokenizer))  # as where special tokens lie behind all words
    with pytest.raises(ValueError, match="--new_words: the tokenizer has .* words and the model embeddings of"):
        add_words(model, processor, ["bebop"] * 9, most=4)


def test_a_branch_changes_nothing_until_it_has_learnt_and_then_tells_the_answers(tmp_path):
    rows = [
        Row(f"c{n:02}", "What?", answers[n], kind, "own", 0, 10)
        for n in range(32)
        for kind, answers in {"genre": ["jazz", "rock"] * 16, "instruments": ["piano and drums", "drums"] * 16}.items()
        if n < 28 or kind == "genre"
    ]
    model, processor = new_tiny(["a slow song"], pooling="mean")
    states = torch.from_numpy(np.stack([heard_of(rows).read(f"c{n:02}") for n in range(32)]))
    before = model.eval().projector(states)
    adapt(model, processor, [], MertLMOptions(projector_branch=16, branch_dropout=0.1), seed=0)
    assert torch.equal(model.projector(states), before)
    model.projector.standardise(states)
    loss = warm_up_branch(model, rows, heard_of(rows), epochs=100, seed=0)
    assert loss < 1.1 < warm_up_branch(model, rows, heard_of(rows), epochs=1, seed=1)
    learns = [name for name, weight in model.projector.named_parameters() if weight.requires_grad]
    assert learns == ["branch.input.weight", "branch.input.bias", "branch.output.weight"]
    assert not torch.equal(model.train().projector.branch.hidden(states), model.projector.branch.hidden(states))
    model.save_pretrained(tmp_path)
    loaded = AutoModelForMultimodalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.projector.branch.input.weight, model.projector.branch.input.weight)
    assert loaded.projector.branch.input.weight.requires_grad


def test_targets_are_the_terms_of_each_type_and_unknown_where_nothing_was_asked():
    rows = [
        Row("a", "?", "piano and drums", "instruments", "own", 0, 10), Row("b", "?", "Jazz.", "genre", "own", 0, 10),
        Row("b", "?", "some drums", "instruments", "own", 0, 10), Row("b", "?", "A long text.", "long", "own", 0, 10),
    ]  # fmt: skip
    clips, (instruments, genre) = closed_targets(rows)
    assert clips == ["a", "b"] and instruments.tolist() == [[1, 1], [1, 0]]
    assert genre[1].tolist() == [1] and bool(genre[0].isnan().all())
    assert answer_loss(torch.zeros(2, 1), genre).item() == 0  # one term, known for one clip
    assert answer_loss(torch.zeros(2, 2), instruments).item() == pytest.approx(np.log(2), abs=1e-5)
