"""One hypothesis a question: the most likely token at each step, or a sampled one."""

import torch

from .generation_rules_lp_music_caps import apply_rules, is_one_of
from .generation_settings_lp_music_caps import AnswerSettings


class GreedySearch:
    """The answers so far of up to `slots` questions, as GenerationMixin._sample builds them."""

    beams = 1

    def __init__(self, settings: AnswerSettings, slots: int, device: torch.device | str = "cpu") -> None:
        self.settings = settings
        self.prefix = [settings.decoder_start_token_id]
        with torch.device(device):
            self.ends = torch.tensor(settings.eos_token_ids, dtype=torch.long)
            self.lengths = torch.ones(slots, dtype=torch.long)
            self.sequences = torch.full((slots, 1, settings.max_length), settings.pad_token_id)
            self.scores = torch.zeros(slots)  # summed log probabilities of the tokens, before any rule

    @property
    def states(self) -> list[torch.Tensor]:
        """What a step changes; the first dimension is the slot."""
        return [self.lengths, self.sequences, self.scores]

    def open(self, slot: int) -> None:
        """Begin a question."""
        self.sequences[slot] = self.settings.pad_token_id
        self.sequences[slot, :, 0] = self.prefix[0]
        # fill_, since a GPU is waited for where a number is assigned to a single place
        self.lengths[slot].fill_(1)
        self.scores[slot].fill_(0)

    def move(self, source: int, target: int) -> None:
        """Copy a question to another slot."""
        for state in self.states:
            state[target] = state[source]

    def advance(self, logits: torch.Tensor, active: int) -> tuple[None, torch.Tensor]:
        """Append the next token of the first `active` questions from logits (active, vocab).

        Returns None, since no beam changes its place, and which questions are done, (active,).
        """
        lengths = self.lengths[:active].clone()
        log_probs = logits.log_softmax(-1)
        tokens = self.choose(apply_rules(self.settings, logits, self.sequences[:active, 0], lengths))
        self.scores[:active] += log_probs.gather(1, tokens[:, None])[:, 0]
        self.sequences[:active, 0].scatter_(1, lengths[:, None], tokens[:, None])
        self.lengths[:active] += 1
        return None, is_one_of(tokens, self.ends) | (lengths + 1 >= self.settings.max_length)

    def choose(self, scores: torch.Tensor) -> torch.Tensor:
        """Choose a token a row from scores (rows, vocab)."""
        return scores.argmax(dim=-1)

    def answer(self, slot: int) -> tuple[list[int], float]:
        """The answer to a question, from the start token to the end token, and its mean log probability."""
        length = int(self.lengths[slot])
        return self.sequences[slot, 0, :length].tolist(), float(self.scores[slot]) / (length - 1)


class SamplingSearch(GreedySearch):
    """Sampled answers. All questions stay to the end, since each draw takes its numbers for the whole batch."""

    def __init__(
        self, settings: AnswerSettings, slots: int, vocab_size: int, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(settings, slots, device)
        self.vocab_size = vocab_size
        self.done = torch.zeros(slots, dtype=torch.bool, device=device)

    def advance(self, logits: torch.Tensor, active: int) -> tuple[None, torch.Tensor]:
        """Append a sampled token to all answers that go on; the questions are done together."""
        log_probs = logits.log_softmax(-1)
        tokens = self.choose(apply_rules(self.settings, logits, self.sequences[:, 0], self.lengths))
        tokens = tokens.masked_fill(self.done, self.settings.pad_token_id)
        self.scores += log_probs.gather(1, tokens[:, None])[:, 0].masked_fill(self.done, 0)
        self.sequences[:, 0].scatter_(1, self.lengths[:, None], tokens[:, None])
        self.lengths += (~self.done).long()
        self.done |= is_one_of(tokens, self.ends) | (self.lengths >= self.settings.max_length)
        return None, self.done.all().expand(active)

    def choose(self, scores: torch.Tensor) -> torch.Tensor:
        """Draw a token a row from scores (rows, vocab) as torch's generator has it."""
        # Without the head's padding: the numbers drawn depend on the shape.
        scores = scores[:, : self.vocab_size].contiguous()
        scores = self.settings.warpers(self.sequences[:, 0], scores)
        return scores.softmax(dim=-1).multinomial(1)[:, 0]
