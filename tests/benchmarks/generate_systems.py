"""The systems that bench_generate.py compares, and what they are asked."""

import copy
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import linear
from torch.nn.utils.rnn import pad_sequence
from train_generate_model import LONG, SHORT, Writer
from transformers.modeling_outputs import BaseModelOutput

from descant.models.lp_music_caps import LPMusicCapsFeatureExtractor, LPMusicCapsForConditionalGeneration
from descant.models.lp_music_caps.engine_lp_music_caps import AnswerEngine
from descant.models.lp_music_caps.generation_lp_music_caps import strip_padding
from descant.models.lp_music_caps.packed_bart_lp_music_caps import FastEncoder
from descant.models.lp_music_caps.search_lp_music_caps import BeamSearch

Question = tuple[int, list[int]]  # clip, prompt ids

# What torch's profiler calls matrix products, as they occur in answering.
PRODUCTS = (
    "_linear_pointwise", "_convolution_pointwise", "mkldnn_convolution", "mm", "addmm", "bmm",
    "_scaled_dot_product_flash_attention_for_cpu",
)  # fmt: skip


@dataclass
class Load:
    """Questions about clips, in the order in which they come."""

    name: str
    questions: list[Question]
    lengths: list[int]  # tokens that each question asks for
    waveforms: list[np.ndarray]
    mels: torch.Tensor  # (clips, 128, 1001)

    def shares(self, size: int, count: int = 1) -> list[list[int]]:
        """Deal out the rows of `count` shares of up to `size` questions that ask for the same mix of lengths.

        They have no question in common where the load is large enough. Rows are taken at even distances from the
        order of lengths, and then dealt to and fro, or every share would ask for a little more than the one before.
        """
        size = min(size, len(self.questions))
        order = sorted(range(len(self.questions)), key=self.lengths.__getitem__)
        dealt = [order[(2 * place + 1) * len(order) // (2 * size * count)] for place in range(size * count)]
        rounds = [dealt[start : start + count] for start in range(0, len(dealt), count)]
        apart = len(dealt) <= len(order)
        hands = [rows[::-1] if place % 2 and apart else rows for place, rows in enumerate(rounds)]
        return [sorted(share) for share in zip(*hands, strict=True)]

    def batch(self, rows: list[int]) -> dict[str, torch.Tensor]:
        """What the processor makes of some of the questions: a mel a row, prompts padded to the longest."""
        prompts = [torch.tensor(self.questions[row][1]) for row in rows]
        return {
            "input_features": self.mels[[self.questions[row][0] for row in rows]],
            "prompt_input_ids": pad_sequence(prompts, batch_first=True, padding_value=1),
            "prompt_attention_mask": pad_sequence([torch.ones_like(ids) for ids in prompts], batch_first=True),
        }

    def batch_for(self, model: LPMusicCapsForConditionalGeneration, rows: list[int]) -> dict[str, torch.Tensor]:
        """`batch` on the model's device."""
        return {name: value.to(model.device) for name, value in self.batch(rows).items()}


def make_loads(waveforms: list[np.ndarray], mels: torch.Tensor, questions: int, vocab_size: int) -> list[Load]:
    """Short answers, long answers, and half of each: `questions` a clip, shuffled."""
    rng = np.random.default_rng(1)
    loads = []
    for name, lengths in (("short", SHORT), ("long", LONG), ("mixed", (*SHORT, *LONG))):
        writer, count = Writer(rng, vocab_size), len(mels) * questions
        wanted = [sorted(lengths)[place * len(lengths) // count] for place in range(count)]
        asked = [(place % len(mels), writer.question(length)) for place, length in enumerate(wanted)]
        order = rng.permutation(count)
        lengths = [wanted[place] for place in order]
        loads.append(Load(name, [asked[place] for place in order], lengths, waveforms, mels))
    return loads


class Race(NamedTuple):
    """The smallest difference between neighbours among the scores that compete for a beam in one step.

    Two roundings may put neighbours of a few units in different orders.
    """

    gap: float
    units: float  # the gap in units in the last place of these scores
    place: int  # of the token that this step chooses


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
            prompt, features = torch.tensor([ids]).to(self.model.device), features.to(self.model.device)
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
            tokens = self.model.generate(**load.batch_for(self.model, chosen), fast=False, **self.settings)
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


@contextmanager
def counted_work(model: LPMusicCapsForConditionalGeneration) -> Iterator[list[float]]:
    """Gives a list whose entry is, at the end, the GFLOP of the matrix products that descant has done meanwhile."""
    work = [0.0]
    report, encode = AnswerEngine._report_newest, FastEncoder.__call__

    def counting_step(engine: AnswerEngine, active: int) -> None:
        work[0] += active * engine.search.beams * decoder_work(model) / 1e9
        return report(engine, active)

    def counting_encode(encoder: FastEncoder, inputs_embeds: torch.Tensor, **kwargs) -> BaseModelOutput:
        work[0] += inputs_embeds.shape[0] * inputs_embeds.shape[1] * encoder_work(model) / 1e9
        return encode(encoder, inputs_embeds, **kwargs)

    def count_convolutions(module: torch.nn.Module, args: tuple[torch.Tensor], output: torch.Tensor) -> None:
        work[0] += len(args[0]) * conv_work(model) / 1e9

    hook = model.audio_encoder.register_forward_hook(count_convolutions)
    AnswerEngine._report_newest, FastEncoder.__call__ = counting_step, counting_encode
    try:
        yield work
    finally:
        AnswerEngine._report_newest, FastEncoder.__call__ = report, encode
        hook.remove()


def matmul_peak(model: LPMusicCapsForConditionalGeneration) -> float:
    """GFLOP/s of torch's matrix products of 160 rows with the decoder's largest weights, now."""
    config, rates = model.config, []
    for width in (config.decoder_ffn_dim, config.vocab_size):
        rows = torch.randn(160, config.d_model, device=model.device)
        weight = torch.randn(width, config.d_model, device=model.device)
        for _ in range(3):
            wait(model)
            start = time.perf_counter()
            linear(rows, weight)
            wait(model)
            rates.append(2 * rows.shape[0] * weight.numel() / (time.perf_counter() - start) / 1e9)
    return statistics.median(rates)


def wait(model: LPMusicCapsForConditionalGeneration) -> None:
    """Wait until a GPU has done what it was given."""
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


def product_share(system: Descant, load: Load, rows: list[int]) -> float:
    """The share of the processor's time that answering some questions spends in matrix products and convolutions."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        system.answer(load, rows)
    spent = {event.key.rsplit("::", 1)[-1]: event.self_cpu_time_total for event in profile.key_averages()}
    return sum(spent.get(name, 0.0) for name in PRODUCTS) / sum(spent.values())


def find_differences(
    model: LPMusicCapsForConditionalGeneration, load: Load, expected: dict, actual: dict, settings: dict
) -> list[dict]:
    """The questions whose tokens differ, with both answers and the closest race up to the first difference."""
    if model.device.type != "cpu":  # a GPU's steps are recorded, and cannot be watched
        model = copy.deepcopy(model).cpu()
    found = []
    for row in (row for row in expected if expected[row] != actual[row]):
        place = first_difference(expected[row], actual[row])
        races = watch_races(model, load.batch([row]), settings)
        case = {"question": row, "first_difference": place, "closest_race": closest_race(races, place)}
        case |= {"closest_race_of_all": closest_race(races), "expected": expected[row], "actual": actual[row]}
        found.append(case)
    return found


def first_difference(one: list[int], other: list[int]) -> int:
    """The first place at which two answers have different tokens, or where the shorter one ends."""
    places = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in places if a != b), min(len(one), len(other)))


def watch_races(
    model: LPMusicCapsForConditionalGeneration, batch: dict[str, torch.Tensor], settings: dict
) -> list[Race]:
    """How close the race for a beam is, in each step of descant's search about one question."""
    races = []
    candidates = BeamSearch._best_candidates

    def watch(search: BeamSearch, logits: torch.Tensor, active: int) -> tuple[torch.Tensor, ...]:
        found = candidates(search, logits, active)
        scores = found[0][0, : search.beams + 1]
        gap, place = (scores[:-1] - scores[1:]).min(dim=0)
        unit = float(np.spacing(scores[place].abs().numpy()))
        races.append(Race(gap.item(), gap.item() / unit, int(search.lengths[0])))
        return found

    BeamSearch._best_candidates = watch
    try:
        model.generate(**batch, **settings)
    finally:
        BeamSearch._best_candidates = candidates
    return races


def closest_race(races: list[Race], last: int | None = None) -> Race:
    """The closest race, of those that decide over tokens up to place `last`."""
    return min(race for race in races if last is None or race.place <= last)


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
