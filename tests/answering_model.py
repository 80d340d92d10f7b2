"""A tiny model taught for a few seconds to give answers of many lengths, so that searches end at different steps."""

from dataclasses import dataclass

import torch
from small_sizes import small_config
from torch.nn.utils.rnn import pad_sequence

from descant.models.lp_music_caps import LPMusicCapsForConditionalGeneration

CLIPS = 8
LENGTHS = (3, 5, 8, 13, 21, 34)  # tokens of an answer, by type of question
VOCAB = 300


@dataclass
class AnsweringModel:
    """The model, and the clips that its questions are about."""

    model: LPMusicCapsForConditionalGeneration
    audio_embeds: torch.Tensor  # (clips, positions, d_model)

    def ask(self, count: int, seed: int) -> dict[str, torch.Tensor]:
        """Make a batch of questions in words of their own."""
        generator = torch.Generator().manual_seed(seed)
        kinds = torch.randint(len(LENGTHS), (count,), generator=generator)
        clips = torch.randint(CLIPS, (count,), generator=generator)
        ids, mask = pad([write_question(kind, generator) for kind in kinds.tolist()], 1)
        return {
            "audio_embeds": self.audio_embeds,
            "clip_index": clips,
            "prompt_input_ids": ids,
            "prompt_attention_mask": mask,
        }


def write_question(kind: int, generator: torch.Generator) -> torch.Tensor:
    """Hide the token that says the type among fillers."""
    words = torch.randint(20, 60, (int(torch.randint(2, 11, (), generator=generator)),), generator=generator)
    words[int(torch.randint(len(words), (), generator=generator))] = 5 + kind
    return torch.cat([torch.tensor([0]), words, torch.tensor([2])])


def write_answer(kind: int, clip: int) -> torch.Tensor:
    """The one right answer to a type of question about a clip."""
    generator = torch.Generator().manual_seed(100 * kind + clip)
    words = torch.randint(60, VOCAB, (LENGTHS[kind],), generator=generator)
    return torch.cat([torch.tensor([0]), words, torch.tensor([2])])


def pad(rows: list[torch.Tensor], value: int) -> tuple[torch.Tensor, torch.Tensor]:
    masks = [torch.ones_like(row) for row in rows]
    return pad_sequence(rows, batch_first=True, padding_value=value), pad_sequence(masks, batch_first=True)


def teach(steps: int = 150) -> AnsweringModel:
    """Train from random weights; the answers come out roughly right, with near misses for the beams to weigh."""
    torch.manual_seed(0)
    config = small_config(vocab_size=VOCAB, d_model=32, heads=2, max_position_embeddings=128, dropout=0.0)
    model = LPMusicCapsForConditionalGeneration(config)
    taught = AnsweringModel(model, 0.3 * torch.randn(CLIPS, config.audio_positions, config.d_model))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-2)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.05, total_iters=20)
    for step in range(steps):
        batch = taught.ask(24, seed=step)
        kinds = [int(row[(row >= 5) & (row < 20)][0]) - 5 for row in batch["prompt_input_ids"]]
        answers = [write_answer(kind, clip) for kind, clip in zip(kinds, batch["clip_index"].tolist(), strict=True)]
        labels, _ = pad(answers, -100)
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        warm_up.step()
        optimizer.zero_grad()
    model.eval().requires_grad_(False)
    return taught
