"""Training throughput beside a plain reimplementation of the reference's loop: same model, data and precision.

    python tests/benchmarks/bench_train.py [--d_model 256] [--batch_size 32] [--steps 6] [--alternations 3]

The plain loop does what the reference did: random batches, waveform to log-mel at every step, tokenising inside the
step, prompts padded before the audio is appended, a clip once for each of its questions. Both run in this process on
the same threads, alternating; the table gives the median and range of the paired ratios of items a second. Answer
lengths follow MusicInstruct's: 16 tokens (short) and 60 (long) in the mean, log-normal, or both mixed (all).
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from descant.data.annotations import Row
from descant.data.collator import AudioTextCollator
from descant.models.lp_music_caps import (
    LPMusicCapsConfig,
    LPMusicCapsFeatureExtractor,
    LPMusicCapsForConditionalGeneration,
    LPMusicCapsProcessor,
)
from descant.training.curriculum import CurriculumSampler, StagePlan
from descant.training.loss import smoothed_cross_entropy
from descant.training.rows import TokenizedRows
from descant.training.start import train_tokenizer

WORDS = [f"word{number}" for number in range(400)]
MEAN_WORDS = {"short": (16,), "long": (60,), "all": (16, 60)}


class MemoryStore:
    """Cached log-mels, as a warm feature store gives them."""

    def __init__(self, waveforms: dict[str, np.ndarray]) -> None:
        extractor = LPMusicCapsFeatureExtractor()
        self.mels = {clip: extractor.extract_mel(wave) for clip, wave in waveforms.items()}

    def read(self, clip_id: str, out: np.ndarray | None = None) -> np.ndarray:
        return self.mels[clip_id]


def make_rows(kind: str, clips: int, questions: int) -> list[Row]:
    random = np.random.default_rng(0)
    rows = []
    for number in range(clips * questions):
        mean = MEAN_WORDS[kind][number % len(MEAN_WORDS[kind])]
        words = int(np.clip(random.lognormal(np.log(mean) - 0.08, 0.4), 3, 120))
        answer = " ".join(random.choice(WORDS, words))
        question = " ".join(random.choice(WORDS, random.integers(5, 15)))
        rows.append(Row(f"clip{number % clips}", question, answer, None, "bench", 0.0, 10.0))
    return rows


def descant_steps(model, rows: list[Row], tokenizer, store: MemoryStore, batch_size: int) -> Callable:
    """One training step of descant, as a function of the optimizer that returns its number of rows."""
    tokenized = TokenizedRows(rows, LPMusicCapsProcessor(LPMusicCapsFeatureExtractor(), tokenizer))
    sampler = CurriculumSampler(
        [StagePlan("all", np.arange(len(rows)), 1000)],
        tokenized.clip_numbers,
        tokenized.lengths,
        batch_size=batch_size,
    )
    collator = AudioTextCollator(store, pad_token_id=1, decoder_start_token_id=2)
    loss_of, order = smoothed_cross_entropy(0.1), iter(sampler)

    def step(optimizer: torch.optim.Optimizer) -> int:
        batch = collator([tokenized[next(order)] for _ in range(batch_size)])
        batch.pop("row_index")
        labels = batch.pop("labels")
        loss_of(model(**batch, use_cache=False), labels, labels.ne(-100).sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
        return batch_size

    return step


def plain_steps(model, rows: list[Row], tokenizer, waveforms: dict[str, np.ndarray], batch_size: int) -> Callable:
    """One training step as the reference wrote it."""
    random, extractor = np.random.default_rng(1), LPMusicCapsFeatureExtractor()
    bart = model.model

    def step(optimizer: torch.optim.Optimizer) -> int:
        chosen = [rows[index] for index in random.integers(len(rows), size=batch_size)]
        mel = extractor.extract_mel(torch.from_numpy(np.stack([waveforms[row.clip_id] for row in chosen])))
        audio = model.audio_encoder(mel)
        prompt = tokenizer([row.question for row in chosen], padding=True, return_tensors="pt")
        embeds = torch.cat([bart.encoder.embed_tokens(prompt["input_ids"]), audio], dim=1)
        mask = torch.cat([prompt["attention_mask"], torch.ones(audio.shape[:2], dtype=torch.long)], dim=1)
        texts = [row.answer for row in chosen]
        answers = tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
        labels = answers["input_ids"].masked_fill(answers["attention_mask"] == 0, -100)
        shifted = torch.cat([torch.full((batch_size, 1), 2), answers["input_ids"][:, :-1]], dim=1)
        encoded = bart.encoder(inputs_embeds=embeds, attention_mask=mask)[0]
        hidden = bart.decoder(input_ids=shifted, encoder_hidden_states=encoded, use_cache=False)[0]
        logits = model.lm_head(hidden) + model.final_logits_bias
        functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=0.1).backward()
        optimizer.step()
        optimizer.zero_grad()
        return batch_size

    return step


def items_a_second(step: Callable, optimizer: torch.optim.Optimizer, steps: int) -> float:
    started = time.perf_counter()
    return sum(step(optimizer) for _ in range(steps)) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--d_model", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--alternations", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    waveforms = {f"clip{n}": 0.1 * random.standard_normal(160000).astype(np.float32) for n in range(64)}
    tokenizer, store = train_tokenizer(WORDS), MemoryStore(waveforms)
    config = LPMusicCapsConfig.small(
        len(tokenizer), d_model=args.d_model, layers=args.layers, heads=4, encoder_ffn_dim=4 * args.d_model,
        decoder_ffn_dim=4 * args.d_model, max_position_embeddings=1024,
    )  # fmt: skip
    sizes = f"d_model {args.d_model}, {args.layers} + {args.layers} layers"
    print(f"{sizes}, batch {args.batch_size}, {args.threads} threads")
    for kind in MEAN_WORDS:
        rows = make_rows(kind, clips=64, questions=20)
        model = LPMusicCapsForConditionalGeneration(config).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
        ours = descant_steps(model, rows, tokenizer, store, args.batch_size)
        plain = plain_steps(model, rows, tokenizer, waveforms, args.batch_size)
        ours(optimizer), plain(optimizer)
        pairs = [
            (items_a_second(ours, optimizer, args.steps), items_a_second(plain, optimizer, args.steps))
            for _ in range(args.alternations)
        ]
        ratios = [mine / theirs for mine, theirs in pairs]
        mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(
            f"{kind:6} descant {mine:6.1f} items/s, plain {theirs:6.1f}, ratio {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
