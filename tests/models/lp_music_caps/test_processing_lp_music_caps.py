"""Tests of the processor: what a batch of audio and questions becomes."""

import numpy as np
import pytest
import torch

from descant.models.lp_music_caps import LPMusicCapsProcessor

QUESTIONS = ["Is it fast or slow?", "What instruments are heard in the song?", None]


def test_questions_are_padded_at_their_end(processor: LPMusicCapsProcessor, waveforms: list[np.ndarray]) -> None:
    inputs = processor(audio=waveforms, text=QUESTIONS, sampling_rate=16000, return_tensors="pt")
    lengths = inputs["prompt_attention_mask"].sum(dim=1).tolist()
    assert inputs["input_features"].shape == (3, 128, 1001)
    assert lengths[2] == 0 < lengths[0] < lengths[1] == inputs["prompt_input_ids"].shape[1]
    for row, question in enumerate(QUESTIONS[:2]):
        ids = inputs["prompt_input_ids"][row, : lengths[row]]
        assert ids.tolist() == processor.tokenizer(question)["input_ids"]
        assert (ids[0], ids[-1]) == (0, 2)


@pytest.mark.parametrize("text", [None, [None]])
def test_without_a_question_there_is_no_prompt(processor: LPMusicCapsProcessor, text: list[None] | None) -> None:
    inputs = processor(audio=[np.zeros(400, np.float32)], text=text, sampling_rate=16000, return_tensors="pt")
    assert list(inputs) == ["input_features"]


def test_text_alone_gives_prompts_alone(processor: LPMusicCapsProcessor) -> None:
    inputs = processor(text="Is it fast or slow?", return_tensors="pt")
    assert sorted(inputs) == ["prompt_attention_mask", "prompt_input_ids"]
    assert inputs["prompt_input_ids"].dtype == torch.long


def test_nothing_to_process_is_refused(processor: LPMusicCapsProcessor) -> None:
    with pytest.raises(ValueError, match="neither audio nor text"):
        processor()


def test_unequal_numbers_of_clips_and_questions_are_refused(processor: LPMusicCapsProcessor) -> None:
    with pytest.raises(ValueError, match="1 waveforms and 3 questions"):
        processor(audio=[np.zeros(400, np.float32)], text=QUESTIONS, sampling_rate=16000)


def test_batch_decode_gives_the_text_back(processor: LPMusicCapsProcessor) -> None:
    ids = processor.tokenizer([QUESTIONS[0]])["input_ids"]
    assert processor.batch_decode(ids, skip_special_tokens=True) == [QUESTIONS[0]]


def test_a_saved_processor_loads_equal(processor: LPMusicCapsProcessor, waveforms: list[np.ndarray], tmp_path) -> None:
    processor.save_pretrained(tmp_path)
    loaded = LPMusicCapsProcessor.from_pretrained(tmp_path)
    before, after = (
        p(audio=waveforms[:2], text=QUESTIONS[:2], sampling_rate=16000, return_tensors="pt")
        for p in (processor, loaded)
    )
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert loaded.tokenizer.model_max_length == processor.tokenizer.model_max_length
