"""The systems that bench_generate.py compares, and what they are asked."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from train_generate_model import LONG, SHORT, Writer

from descant.models.lp_music_caps import LPMusicCapsFeatureExtractor, LPMusicCapsForConditionalGeneration
from descant.models.lp_music_caps.fast_decoder_lp_music_caps import FastDecoder
from descant.models.lp_music_caps.generation_lp_music_caps import strip_padding

Question = tuple[int, list[int]]  # clip, prompt ids


@dataclass
class Load:
    """Questions about clips, in the order in which they come."""

    name: str
    questions: list[Question]
    waveforms: list[np.ndarray]
    mels: torch.Tensor  # (clips, 128, 1001)

    def batch(self, rows: list[int]) -> dict[str, torch.Tensor]:
        """What the processor makes of some of the questions: a mel a row, prompts padded to the longest."""
        prompts = [torch.tensor(self.questions[row][1]) for row in rows]
        return {
            "input_features": self.mels[[self.questions[row][0] for row in rows]],
            "prompt_input_ids": pad_sequence(prompts, batch_first=True, padding_value=1),
            "prompt_attention_mask": pad_sequence([torch.ones_like(ids) for ids in prompts], batch_first=True),
        }


def make_loads(waveforms: list[np.ndarray], mels: torch.Tensor, questions: int, vocab_size: int) -> list[Load]:
    """Short answers, long answers, and both in turn: `questions` a clip, shuffled."""
    rng = np.random.default_rng(1)
    loads = []
    for name, lengths in (("short", SHORT), ("long", LONG), ("mixed", (*SHORT, *LONG))):
        writer = Writer(rng, vocab_size)
        wanted = np.resize(rng.permutation(lengths), len(mels) * questions)
        asked = [(place % len(mels), writer.question(int(length))) for place, length in enumerate(wanted)]
        order = rng.permutation(len(asked))
        loads.append(Load(name, [asked[place] for place in order], waveforms, mels))
    return loads


class OneByOne:
    """The reference's loop, written plainly: for each question the mel, the encoders, transformers' beams."""

    def __init__(self, model: LPMusicCapsForConditionalGeneration, num_beams: int, **settings) -> None:
        self.model, self.settings = model, settings | {"num_beams": num_beams}
        self.extractor = LPMusicCapsFeatureExtractor()

    def answer(self, load: Load, rows: list[int]) -> dict[int, list[int]]:
        answers = {}
        for row in rows:
            clip, ids = load.questions[row]
            features = self.extractor(load.waveforms[clip], sampling_rate=16_000, return_tensors="pt")
            prompt = torch.tensor([ids])
            tokens = self.model.generate(**features, prompt_input_ids=prompt, fast=False, **self.settings)
            answers[row] = strip_padding(tokens[0].tolist(), 1)
        return answers


class Batches:
    """transformers' generate on batches of the processor's output; the mels are at hand."""

    def __init__(self, model: LPMusicCapsForConditionalGeneration, batch_size: int, **settings) -> None:
        self.model, self.batch_size, self.settings = model, batch_size, settings

    def answer(self, load: Load, rows: list[int]) -> dict[int, list[int]]:
        answers = {}
        for start in range(0, len(rows), self.batch_size):
            chosen = rows[start : start + self.batch_size]
            tokens = self.model.generate(**load.batch(chosen), fast=False, **self.settings)
            answers |= {row: strip_padding(ids, 1) for row, ids in zip(chosen, tokens.tolist(), strict=True)}
        return answers


class Descant:
    """The stream that the command line and the recipes use."""

    def __init__(self, model: LPMusicCapsForConditionalGeneration, batch_size: int = 32, **settings) -> None:
        self.model, self.batch_size, self.settings = model, batch_size, settings

    def answer(self, load: Load, rows: list[int]) -> dict[int, list[int]]:
        pairs = ((load.questions[row][0], load.mels[load.questions[row][0]], load.questions[row][1]) for row in rows)
        stream = self.model.answer_many(pairs, batch_size=self.batch_size, **self.settings)
        return {rows[place]: tokens for place, tokens, _ in stream}


def time_answers(system: OneByOne | Batches | Descant, load: Load, rows: list[int]) -> tuple[float, dict]:
    """Seconds a question, and the answers."""
    start = time.perf_counter()
    answers = system.answer(load, rows)
    return (time.perf_counter() - start) / len(rows), answers


def count_work(model: LPMusicCapsForConditionalGeneration, run: Callable[[], object]) -> float:
    """The multiplications and additions, in GFLOP, of the matrix products that `run` has descant do."""
    work = [0.0]
    step = FastDecoder.step

    def counting_step(decoder: FastDecoder, cache, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        work[0] += tokens.numel() * decoder_work(model)
        return step(decoder, cache, tokens, positions)

    hooks = [
        model.audio_encoder.register_forward_hook(lambda _, args, __: work.append(len(args[0]) * conv_work(model))),
        model.model.encoder.register_forward_hook(
            lambda _, __, ___, out: work.append(out[0].shape[0] * out[0].shape[1] * encoder_work(model)),
            with_kwargs=True,
        ),
    ]
    FastDecoder.step = counting_step
    run()
    FastDecoder.step = step
    for hook in hooks:
        hook.remove()
    return sum(work) / 1e9


def decoder_work(model: LPMusicCapsForConditionalGeneration) -> float:
    """Operations of the decoder's and the head's matrices for one token of one hypothesis."""
    config = model.config
    layer = 6 * config.d_model**2 + 2 * config.d_model * config.decoder_ffn_dim
    return 2.0 * (config.decoder_layers * layer + config.d_model * config.vocab_size)


def encoder_work(model: LPMusicCapsForConditionalGeneration) -> float:
    """Operations for one encoder position, its cross-attention keys and values among them."""
    config = model.config
    layer = 4 * config.d_model**2 + 2 * config.d_model * config.encoder_ffn_dim
    return 2.0 * (config.encoder_layers * layer + config.decoder_layers * 2 * config.d_model**2)


def conv_work(model: LPMusicCapsForConditionalGeneration) -> float:
    """Operations of the convolutions for one clip."""
    frames, work = model.config.audio_frames, 0.0
    for conv in (model.audio_encoder.conv1, *model.audio_encoder.conv_stack):
        frames = (frames - 1) // conv.stride[0] + 1
        work += 2.0 * frames * conv.weight.numel()
    return work
