"""Tests that LoRA adapts the text encoder, trains the rest whole, and is saved with the scale of the embeddings."""

from pathlib import Path

import torch
from peft import PeftModel
from tiny_subgenre import AUDIO_DIM, tracks

from descant.models.subgenre import SubgenreForSequenceClassification, SubgenreProcessor
from descant.training.start import add_lora


def test_an_adapter_is_trained_saved_loaded_and_merged(
    model: SubgenreForSequenceClassification, processor: SubgenreProcessor, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "base")
    model.fit_audio_scale(torch.randn(5, AUDIO_DIM, generator=torch.Generator().manual_seed(0)))
    adapted = add_lora(model, rank=2).train()
    trained = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
    assert any("q_lin.lora_A" in name for name in trained) and any("out_lin.lora_B" in name for name in trained)
    assert not any("text_encoder" in name and "lora" not in name for name in trained)
    assert {"fusion", "text_scores", "audio_projection"} <= {part for name in trained for part in name.split(".")}
    inputs = processor(**tracks(), return_tensors="pt")
    optimizer = torch.optim.SGD(adapted.parameters(), lr=0.1)
    for _ in range(2):  # lora_A moves once lora_B has left zero
        adapted(**inputs, labels=torch.eye(4, 8)).loss.backward()
        optimizer.step()
    adapted.eval().save_pretrained(tmp_path / "adapter")
    with torch.no_grad():
        expected = adapted(**inputs).logits
        again = PeftModel.from_pretrained(type(model).from_pretrained(tmp_path / "base"), tmp_path / "adapter").eval()
        torch.testing.assert_close(again(**inputs).logits, expected)
        torch.testing.assert_close(again.merge_and_unload()(**inputs).logits, expected)
