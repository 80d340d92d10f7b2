"""Tests of the encoding ahead of the search: once a clip, a bounded way ahead."""

import torch
from answering_model import AnsweringModel

from descant.models.lp_music_caps import question_stream_lp_music_caps as stream_module
from descant.models.lp_music_caps.question_stream_lp_music_caps import QuestionStream

FEATURES = torch.randn(6, 128, 1001, generator=torch.Generator().manual_seed(0))


def make_pairs(count: int) -> list:
    """Questions of different lengths, about six clips in turn."""
    return [(f"clip{i % 6}", FEATURES[i % 6].numpy(), [0, *range(5, 6 + i % 9), 2]) for i in range(count)]


def test_states_are_those_of_each_question_alone(taught: AnsweringModel) -> None:
    pairs = [*make_pairs(20), ("clip0", FEATURES[0], None)]
    for position, states in QuestionStream(taught.model, pairs, ahead=8):
        ids = pairs[position][2]
        prompt = None if ids is None else torch.tensor([ids])
        alone, _ = taught.model.encode(torch.as_tensor(pairs[position][1])[None], prompt)
        torch.testing.assert_close(states, alone.last_hidden_state[0], atol=1e-4, rtol=1e-4)


def test_a_clip_goes_through_the_convolutions_once(taught: AnsweringModel) -> None:
    clips = []
    hook = taught.model.audio_encoder.register_forward_hook(lambda module, args, out: clips.append(len(args[0])))
    assert len(list(QuestionStream(taught.model, make_pairs(60), ahead=16))) == 60
    hook.remove()
    assert sum(clips) == 6


def test_few_clips_are_remembered(taught: AnsweringModel, monkeypatch) -> None:
    monkeypatch.setattr(stream_module, "CLIPS_KEPT", 2)
    stream = QuestionStream(taught.model, make_pairs(30), ahead=6)
    assert len(list(stream)) == 30
    assert len(stream.clips) == 2


def test_no_more_is_read_than_the_way_ahead(taught: AnsweringModel) -> None:
    read = []
    stream = iter(QuestionStream(taught.model, (read.append(p) or p for p in make_pairs(60)), ahead=10))
    next(stream)
    assert len(read) == 10
