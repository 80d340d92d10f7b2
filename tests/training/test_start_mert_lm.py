"""Where MertLM training starts from: tiny parts for the demo, given ones else, and refusals that name the setting."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_mert_lm import join_tiny, save_parts

from descant.data.annotations import Row
from descant.training.rows import TokenizedRows
from descant.training.start import load_start
from descant.training.start_mert_lm import embed_answers, fit_projector, new_mert_lm, train_chat_tokenizer

JOINED = {"layer_mix": "learned", "pooling": "stride", "pool_stride": 15, "projector": "mlp"}


def settings(**given: object) -> SimpleNamespace:
    nothing = {"audio_encoder": None, "text_model": None, "demo": True, "init_from": None, "seed": 0}
    return SimpleNamespace(**(nothing | JOINED | given))


def test_the_demo_joins_tiny_random_parts_the_same_for_the_same_seed():
    (one, processor), (other, _) = (load_start(settings(), ["some text"], new_mert_lm) for _ in range(2))
    weights = other.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in one.state_dict().items())
    assert one.config.text_model_id is None and sum(p.numel() for p in one.parameters()) < 500_000
    assert processor.feature_extractor.window_s == 10.0


def test_given_parts_are_joined_as_the_settings_say(tmp_path):
    encoder, language_model = save_parts(tmp_path)
    model, _ = new_mert_lm(settings(audio_encoder=encoder, text_model=language_model), [])
    assert {name: getattr(model.config, name) for name in JOINED} == JOINED
    assert (model.config.audio_model_id, model.config.text_model_id) == (encoder, language_model)


def test_one_part_without_the_other_is_refused():
    with pytest.raises(ValueError, match="pass --audio_encoder and --text_model"):
        new_mert_lm(settings(audio_encoder="some/encoder"), [])
    with pytest.raises(ValueError, match="pass --audio_encoder and --text_model"):
        new_mert_lm(settings(demo=False), [])


def test_a_part_out_of_reach_is_named(tmp_path):
    with pytest.raises(ValueError, match="--audio_encoder .*none, --text_model .*none: cannot be loaded"):
        new_mert_lm(settings(audio_encoder=str(tmp_path / "none"), text_model=str(tmp_path / "none")), [])


@pytest.mark.parametrize("projector", ["linear", "mlp"])
def test_a_projector_starts_on_standardised_states_and_near_the_words_of_the_answers(tmp_path, projector):
    model, processor = join_tiny(save_parts(tmp_path), pooling="mean", projector=projector)
    torch.manual_seed(0)
    answers = ["a slow piano", "jazz rock", "loud drums", "a loud guitar"] * 8
    rows = [Row(f"c{n}", None, answer, None, "own", 0, 10) for n, answer in enumerate(answers)]
    heard = {answer: 30 + torch.randn(1, 1, 32) for answer in answers}  # far from 0: what all clips have in common
    states = {row.clip_id: (heard[row.answer] + 0.1 * torch.randn(1, 1, 32)).numpy() for row in rows}
    data = SimpleNamespace(rows=TokenizedRows(rows, processor), features=SimpleNamespace(read=states.__getitem__))
    fit_projector(model, data, SimpleNamespace(projector=projector))
    all_states = torch.from_numpy(np.stack(list(states.values())))
    standard = ((all_states[:, 0, 0] - model.projector.mean) / model.projector.spread).detach()
    torch.testing.assert_close(standard.mean(dim=0), torch.zeros(32), atol=1e-3, rtol=0)
    torch.testing.assert_close(standard.std(dim=0), torch.ones(32), atol=1e-3, rtol=0)
    if projector == "linear":
        _, words = embed_answers(model, data)
        given = model.get_audio_features(all_states)[:, 0] - words.mean(dim=0)
        likeness = torch.nn.functional.cosine_similarity(given[:, None], (words - words.mean(dim=0))[None], dim=2)
        assert [answers[place] for place in likeness.argmax(dim=1)] == answers


def test_the_tiny_tokenizer_chats():
    tokenizer = train_chat_tokenizer(["hello there"])
    text = tokenizer.apply_chat_template([{"role": "user", "content": "hello"}], tokenize=False)
    assert text == "<|im_start|>user\nhello<|im_end|>\n"
    assert tokenizer.decode(tokenizer("hello there")["input_ids"]) == "hello there"
