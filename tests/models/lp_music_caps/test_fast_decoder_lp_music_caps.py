"""Tests that packed steps compute what the model's own decoder computes."""

import torch
from answering_model import AnsweringModel

from descant.models.lp_music_caps.fast_decoder_lp_music_caps import FastDecoder


def test_steps_give_the_logits_of_the_whole_sequence(taught: AnsweringModel) -> None:
    model, batch = taught.model, taught.ask(3, seed=6000)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, 300, (3, 2, 20), generator=generator)  # two hypotheses a question
    outputs, mask = model.encode(**batch)
    decoder = FastDecoder(model)
    cache = decoder.new_cache(slots=3, beams=2)
    for slot, states in enumerate(outputs.last_hidden_state):
        decoder.open_slot(cache, slot, states[: mask[slot].sum()])
    steps = []
    for place in range(20):
        cache.add_nodes(3)
        hidden = decoder.step(cache, tokens[:, :, place], torch.full((3, 2), place))
        steps.append(decoder.head(hidden)[:, :300].view(3, 2, 300))
    repeated = {name: batch[name].repeat_interleave(2, 0) for name in batch if name != "audio_embeds"}
    expected = model(**repeated, audio_embeds=batch["audio_embeds"], decoder_input_ids=tokens.flatten(0, 1)).logits
    torch.testing.assert_close(torch.stack(steps, dim=2).flatten(0, 1), expected, atol=1e-4, rtol=1e-4)


def test_the_head_is_padded_with_impossible_tokens(taught: AnsweringModel) -> None:
    logits = FastDecoder(taught.model).head(torch.randn(2, 32))
    assert logits.shape == (2, 320)
    assert (logits[:, 300:] == float("-inf")).all()
