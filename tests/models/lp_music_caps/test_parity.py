"""Tests against what the reference's own code gave, and (pytest -m full) one walk at the size of what it published."""

from pathlib import Path

import pytest
import torch
from transformers.trainer_pt_utils import LabelSmoother

from descant.models.lp_music_caps import LPMusicCapsConfig, LPMusicCapsForConditionalGeneration, LPMusicCapsProcessor
from descant.models.lp_music_caps.convert_lp_music_caps_to_hf import convert_checkpoint

# What the two names of generation settings in expected.json stand for.
GENERATION = {
    "plain": {"no_repeat_ngram_size": 0, "early_stopping": False, "forced_bos_token_id": None},
    "bart_base_generation_config": {},
}


class Converted:
    """A converted reference checkpoint, loaded from its folder, with what it should give."""

    def __init__(self, reference, folder: Path) -> None:
        convert_checkpoint(reference.folder / "checkpoint.pth", str(reference.folder / "bart"), folder)
        self.model = LPMusicCapsForConditionalGeneration.from_pretrained(folder).eval()
        self.processor = LPMusicCapsProcessor.from_pretrained(folder)
        self.reference = reference

    def inputs(self, case: dict) -> dict[str, torch.Tensor]:
        audio = [self.reference.waveforms[case["clip"]]]
        return self.processor(audio=audio, text=[case["question"]], sampling_rate=16000, return_tensors="pt")

    def labels(self, case: dict) -> torch.Tensor:
        return self.processor.tokenizer([case["answer"]], return_tensors="pt")["input_ids"]


@pytest.fixture(scope="module")
def converted(reference, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return Converted(reference, tmp_path_factory.mktemp("converted"))


def assert_close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    # Embeddings reach 3,500, where one unit in the last place is 2e-4: the tolerance is relative above 1.
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_audio_embeddings(converted: Converted) -> None:
    mel = torch.from_numpy(converted.processor.feature_extractor.extract(converted.reference.waveforms))
    assert_close(converted.model.get_audio_features(mel), converted.reference.expected["audio_embeds"])


@torch.no_grad()
def test_encoder_states_and_logits(converted: Converted) -> None:
    cases = converted.reference.cases["label_smoothed_loss"]
    for name, expected in converted.reference.expected.items():
        kind, _, index = name.partition(".")
        if kind not in ("encoder_last_hidden_state", "logits"):
            continue
        case = cases[int(index)]
        outputs = converted.model(**converted.inputs(case), labels=converted.labels(case))
        actual = outputs.logits if kind == "logits" else outputs.encoder_last_hidden_state
        assert_close(actual, expected)


@torch.no_grad()
def test_label_smoothed_losses(converted: Converted) -> None:
    for case in converted.reference.cases["label_smoothed_loss"]:
        labels = converted.labels(case)
        decoder_inputs = converted.model.prepare_decoder_input_ids_from_labels(labels)
        outputs = converted.model(**converted.inputs(case), decoder_input_ids=decoder_inputs)
        assert LabelSmoother(0.1)(outputs, labels).item() == pytest.approx(case["loss"], abs=1e-5)


@pytest.mark.parametrize("fast", [True, False])
def test_generated_texts(converted: Converted, fast: bool) -> None:
    cases = converted.reference.cases["generate"]
    assert {case["num_beams"] for case in cases} >= {1, 5}
    for case in cases:
        settings = GENERATION[case["generation_config"]] | {"num_beams": case["num_beams"]}
        tokens = converted.model.generate(**converted.inputs(case), **settings, fast=fast)
        assert converted.processor.batch_decode(tokens, skip_special_tokens=True) == [case["text"]]


def test_all_questions_in_one_batch_give_the_same_texts(converted: Converted) -> None:
    wanted = {"num_beams": 5, "generation_config": "bart_base_generation_config"}
    cases = [case for case in converted.reference.cases["generate"] if wanted.items() <= case.items()]
    audio = [converted.reference.waveforms[case["clip"]] for case in cases]
    text = [case["question"] for case in cases]
    inputs = converted.processor(audio=audio, text=text, sampling_rate=16000, return_tensors="pt")
    texts = converted.processor.batch_decode(converted.model.generate(**inputs), skip_special_tokens=True)
    assert texts == [case["text"] for case in cases]


@pytest.mark.full
def test_a_model_of_bart_base_size_trains_a_step_saves_loads_and_answers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(2)
    model = LPMusicCapsForConditionalGeneration(LPMusicCapsConfig())
    assert model.config.vocab_size == 50265
    questions = torch.randint(5, 50265, (2, 9))
    inputs = {"input_features": torch.randn(2, 128, 1001) * 20 - 30, "prompt_input_ids": questions}
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0)
    loss = model(**inputs, labels=torch.randint(5, 50265, (2, 20))).loss
    loss.backward()
    optimizer.step()
    unmoved = [name for name, weight in model.named_parameters() if torch.equal(weight, before[name])]
    assert [name for name in unmoved if not name.endswith("k_proj.bias")] == []
    model.eval().save_pretrained(tmp_path)
    loaded = LPMusicCapsForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(loaded.generate(**inputs, max_length=12), model.generate(**inputs, max_length=12))
