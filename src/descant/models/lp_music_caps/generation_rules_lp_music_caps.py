"""The rules that change scores before tokens are chosen, for hypotheses of different lengths in one batch."""

import torch

from .generation_settings_lp_music_caps import AnswerSettings

MINUS_INFINITY = float("-inf")


def apply_rules(
    settings: AnswerSettings, scores: torch.Tensor, sequences: torch.Tensor, lengths: torch.Tensor
) -> torch.Tensor:
    """Apply transformers' logits processors, in its order, to scores (rows, vocab), in place and without waiting
    for a GPU.

    sequences: (rows, max_length), each row's tokens so far in its first `lengths` (rows,) places.
    """
    if settings.repetition_penalty != 1.0:
        penalise_repetition(scores, sequences, lengths, settings.repetition_penalty)
    if settings.no_repeat_ngram_size > 0:
        ban_repeated_ngrams(scores, sequences, lengths, settings.no_repeat_ngram_size)
    forbid_early_end(settings, scores, lengths)
    if settings.forced_bos_token_id is not None:
        force(scores, lengths == 1, [settings.forced_bos_token_id])
    if settings.forced_eos_token_id is not None:
        force(scores, lengths == settings.max_length - 1, settings.forced_eos_token_id)
    return scores


def penalise_repetition(scores: torch.Tensor, sequences: torch.Tensor, lengths: torch.Tensor, penalty: float) -> None:
    """Make every token that a row holds less likely (https://arxiv.org/abs/1909.05858)."""
    tokens = written(sequences, lengths)
    places = torch.arange(tokens.shape[1], device=tokens.device)
    tokens = torch.where(places < lengths[:, None], tokens, tokens[:, :1])  # a token twice is penalised once
    values = scores.gather(1, tokens)
    scores.scatter_(1, tokens, torch.where(values < 0, values * penalty, values / penalty))


def ban_repeated_ngrams(scores: torch.Tensor, sequences: torch.Tensor, lengths: torch.Tensor, size: int) -> None:
    """Forbid tokens that would complete an n-gram which the row holds already."""
    sequences = written(sequences, lengths)
    starts = sequences.shape[1] - size + 1  # places at which a whole n-gram may begin
    if starts <= 0:
        return
    repeats = torch.arange(starts, device=lengths.device) <= (lengths - size)[:, None]  # (rows, starts)
    last = (lengths - size + 1).clamp(min=0)
    for offset in range(size - 1):
        current = sequences.gather(1, (last + offset)[:, None])
        repeats &= sequences[:, offset : offset + starts] == current
    bans = torch.zeros_like(repeats, dtype=scores.dtype).masked_fill_(repeats, MINUS_INFINITY)
    scores.scatter_add_(1, sequences[:, size - 1 :], bans)


def forbid_early_end(settings: AnswerSettings, scores: torch.Tensor, lengths: torch.Tensor) -> None:
    """Forbid the end of an answer below its minimal length."""
    for token in settings.eos_token_ids if settings.min_length > 0 else ():
        scores[:, token].masked_fill_(lengths < settings.min_length, MINUS_INFINITY)


def force(scores: torch.Tensor, where: torch.Tensor, tokens: list[int]) -> None:
    """Leave only `tokens`, with a log probability of 0, in the rows where `where` (rows,) holds."""
    if scores.device.type == "cpu" and not where.any():
        return
    scores.masked_fill_(where[:, None], MINUS_INFINITY)
    for token in tokens:
        scores[:, token].masked_fill_(where, 0.0)


def written(sequences: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """The columns in which some row has a token; on a GPU all of them, for to ask it how many is to wait for it."""
    return sequences[:, : int(lengths.max())] if lengths.device.type == "cpu" else sequences


def is_one_of(tokens: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Tell for each token whether it is among a few."""
    return (tokens[..., None] == ends).any(dim=-1)
