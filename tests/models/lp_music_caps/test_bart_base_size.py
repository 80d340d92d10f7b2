"""One walk through training and answering at the size of the published checkpoints (opt-in: pytest -m full)."""

from pathlib import Path

import pytest
import torch

from descant.models.lp_music_caps import LPMusicCapsConfig, LPMusicCapsForConditionalGeneration


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
