"""Tests of kept prefixes: right after others were forgotten, and no more than so many."""

import torch
from transformers import DynamicCache

from descant.models.mert_lm import prefix_cache_mert_lm
from descant.models.mert_lm.prefix_cache_mert_lm import PrefixCache, as_tensor


def test_a_prefix_is_what_reading_it_whole_gives(joined) -> None:
    model, processor = joined
    prompt = processor.prompt_ids("Fast?")
    first = prompt.index(model.config.audio_token_id)
    states = torch.randn(1, 4, 32)
    with torch.no_grad():
        cache, length = PrefixCache(model).read(["a", "a"], [states, states], tuple(prompt[:first]))
        head = torch.tensor([prompt[:length]])
        embeds = model.embed_prompts(head, torch.ones_like(head), model.get_audio_features(states[None]))
        whole = DynamicCache()
        model.read_on(embeds, whole)
    assert length == first + 4 == cache.get_seq_length()
    expected = as_tensor(whole).expand(-1, -1, 2, -1, -1, -1)
    torch.testing.assert_close(as_tensor(cache), expected, atol=1e-4, rtol=1e-4)


def test_the_clips_asked_about_longest_ago_are_forgotten(joined, monkeypatch) -> None:
    monkeypatch.setattr(prefix_cache_mert_lm, "CLIPS_KEPT", 2)
    model, _ = joined
    prefixes = PrefixCache(model)
    with torch.no_grad():
        for key in "abcb":
            prefixes.read([key], [torch.randn(1, 4, 32)], (1, 2))
    assert [key for _, key in prefixes.clips] == ["c", "b"]
