"""Training throughput beside a plain reimplementation of the reference's loop: same model, data and process.

    python tests/benchmarks/bench_train.py [--size base|small] [--device cpu|cuda] [--kinds short long all]

The plain loop does what the reference did: random batches, waveform to log-mel at every step, tokenising inside the
step, prompts padded before the audio is appended, a clip once for each of its questions, float32, torch's AdamW as it
comes. descant takes the steps of its recipes (in bfloat16 on a GPU). Both run on the same threads, alternating; the
table (and, as JSON, the last line) gives the median and range of the paired ratios of items a second, and
the share of the device's peak that the model's own work reaches (model FLOPs utilisation: unpadded tokens and each
clip of a batch once, forward and backward; attention scores are left out). Of descant's batches, whose lengths differ,
evenly spread ones are timed.

Lengths follow MusicInstruct's (train: 5 short and 6 long questions a clip). Short answers are log-normal around 16
tokens, as published ones are. Published long answers, of models trained on answers cut at 128 tokens, all end there
in mid-sentence: so long ones are log-normal around 165, which leaves one in ten below the cut.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from descant.data.annotations import Row
from descant.data.collator import AudioTextCollator
from descant.models.lp_music_caps import (
    LPMusicCapsConfig,
    LPMusicCapsFeatureExtractor,
    LPMusicCapsForConditionalGeneration,
    LPMusicCapsProcessor,
)
from descant.training.recipe import REFERENCE_SETTINGS
from descant.training.start import BASE_SIZES
from descant.training.training_data import CurriculumSampler, StagePlan, TokenizedRows

SHORT, LONG = (16, 0.45), (165, 0.2)  # median and spread of the logarithm
ANSWERS = {"short": [SHORT] * 5, "long": [LONG] * 6, "all": [SHORT] * 5 + [LONG] * 6}  # of one clip
CLIPS, RECORDINGS = 640, 64
SMALL_SIZES = {
    "d_model": 256, "encoder_layers": 6, "decoder_layers": 6, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 1024, "decoder_ffn_dim": 1024, "vocab_size": 1200,
}  # fmt: skip
SIZES = {"base": BASE_SIZES, "small": SMALL_SIZES}
GPU_PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bfloat16, from their data sheets


class MemoryStore:
    """Cached log-mels, as a warm feature store gives them; clips share a few recordings."""

    def __init__(self, waveforms: list[np.ndarray]) -> None:
        self.mels = [LPMusicCapsFeatureExtractor().extract(wave) for wave in waveforms]

    def read(self, clip_id: str, out: np.ndarray | None = None) -> np.ndarray:
        return self.mels[int(clip_id) % len(self.mels)]


def build_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """One token a word, so that lengths in words are lengths in tokens."""
    names = ["<s>", "<pad>", "</s>", "<unk>"] + [f"w{number}" for number in range(4, vocabulary)]
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special, model_max_length=1024)


def make_rows(kind: str, clips: int, vocabulary: int) -> list[Row]:
    random = np.random.default_rng(0)

    def words(count: int) -> str:
        return " ".join(f"w{number}" for number in random.integers(4, vocabulary, count))

    return [
        Row(str(clip), words(random.integers(8, 18)), words(max(3, round(random.lognormal(np.log(median), spread)))),
            None, "bench", 0.0, 10.0)
        for clip in range(clips) for median, spread in ANSWERS[kind]
    ]  # fmt: skip


def model_flops(config: LPMusicCapsConfig, clips: int, heard: int, answered: int) -> float:
    """Floating-point operations of the forward and backward pass (twice a forward pass) over so many clips, encoder
    positions and answer tokens."""
    width, frames = config.d_model, config.audio_frames
    conv = 3 * config.num_mel_bins * width * frames
    for _ in range(config.num_strided_convs):
        frames = (frames - 1) // 2 + 1
        conv += 3 * width * width * frames
    encoder = config.encoder_layers * (4 * width**2 + 2 * width * config.encoder_ffn_dim)
    decoder = config.decoder_layers * (6 * width**2 + 2 * width * config.decoder_ffn_dim)
    cross = config.decoder_layers * 2 * width**2
    return 6.0 * (clips * conv + heard * (encoder + cross) + answered * (decoder + width * config.vocab_size))


def batch_flops(config: LPMusicCapsConfig, rows: list[dict]) -> float:
    questions = sum(len(row["prompt_ids"]) for row in rows)
    heard, answered = questions + len(rows) * config.audio_positions, sum(len(row["label_ids"]) for row in rows)
    return model_flops(config, len({row["clip_id"] for row in rows}), heard, answered)


def spread_batches(sampler: CurriculumSampler, lengths: np.ndarray, steps: int) -> Iterator[list[tuple[int, int]]]:
    """Batches of the first stretch, evenly spread over their lengths, again and again."""
    order, size = iter(sampler), sampler.batch_size
    batches = [[next(order) for _ in range(size)] for _ in range(sampler.stretch // size)]
    batches.sort(key=lambda batch: max(lengths[row] for row, _ in batch))
    chosen = ((np.arange(steps) + 0.5) / steps * len(batches)).astype(int)
    while True:
        yield from (batches[number] for number in chosen)


def descant_steps(model, rows: TokenizedRows, store: MemoryStore, batch_size: int, steps: int) -> Callable:
    """One training step of descant, as a function of the optimizer; it returns its rows."""
    device = model.device
    sampler = CurriculumSampler(
        [StagePlan("all", np.arange(len(rows)), 1)], rows.clip_numbers, rows.lengths,
        batch_size=batch_size, rows_per_clip=REFERENCE_SETTINGS["rows_per_clip"],
    )  # fmt: skip
    collator = AudioTextCollator(store, pad_token_id=1, decoder_start_token_id=2)
    batches = spread_batches(sampler, rows.lengths, steps)

    def step(optimizer: torch.optim.Optimizer) -> list[dict]:
        items = [rows[place] for place in next(batches)]
        batch = {name: value.to(device, non_blocking=True) for name, value in collator(items).items()}
        batch.pop("row_index")
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            model(**batch, label_smoothing=REFERENCE_SETTINGS["label_smoothing_factor"]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return items

    return step


def plain_steps(model, rows: TokenizedRows, tokenizer, waveforms: list[np.ndarray], batch_size: int) -> Callable:
    """One training step as the reference wrote it."""
    random, extractor = np.random.default_rng(1), LPMusicCapsFeatureExtractor()
    bart, device = model.model, model.device

    def step(optimizer: torch.optim.Optimizer) -> list[dict]:
        items = [rows[int(index)] for index in random.integers(len(rows), size=batch_size)]
        chosen = [rows.rows[item["row_index"]] for item in items]
        heard = np.stack([waveforms[int(row.clip_id) % len(waveforms)] for row in chosen])
        audio = model.audio_encoder(extractor.extract(torch.from_numpy(heard).to(device)))
        prompt = tokenizer([row.question for row in chosen], padding=True, return_tensors="pt").to(device)
        embeds = torch.cat([bart.encoder.embed_tokens(prompt["input_ids"]), audio], dim=1)
        mask = torch.cat([prompt["attention_mask"], prompt["attention_mask"].new_ones(audio.shape[:2])], dim=1)
        texts = [row.answer for row in chosen]
        answers = tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt").to(device)
        labels = answers["input_ids"].masked_fill(answers["attention_mask"] == 0, -100)
        shifted = torch.cat([labels.new_full((batch_size, 1), 2), answers["input_ids"][:, :-1]], dim=1)
        encoded = bart.encoder(inputs_embeds=embeds, attention_mask=mask)[0]
        hidden = bart.decoder(input_ids=shifted, encoder_hidden_states=encoded, use_cache=False)[0]
        logits = model.lm_head(hidden) + model.final_logits_bias
        loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=0.1)
        loss.backward()
        loss.item()  # logged at every step
        optimizer.step()
        optimizer.zero_grad()
        return items

    return step


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def measure(step: Callable, optimizer: torch.optim.Optimizer, steps: int, model) -> tuple[float, float]:
    """Items a second and model FLOPs a second over `steps` steps."""
    synchronise(model.device)
    started = time.perf_counter()
    done = [step(optimizer) for _ in range(steps)]
    synchronise(model.device)
    seconds = time.perf_counter() - started
    return sum(map(len, done)) / seconds, sum(batch_flops(model.config, items) for items in done) / seconds


def peak_flops(device: torch.device) -> float:
    """Dense peak of a GPU by name; elsewhere the best of ten float32 products of 2,048 × 2,048."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name()
        known = [peak for part, peak in GPU_PEAKS.items() if part in name]
        if known:
            return known[0]
    matrix, best = torch.randn(2048, 2048, device=device), 0.0
    for _ in range(10):
        synchronise(device)
        started = time.perf_counter()
        matrix @ matrix
        synchronise(device)
        best = max(best, 2 * 2048**3 / (time.perf_counter() - started))
    return best


def compare(kind: str, args: argparse.Namespace, waveforms: list[np.ndarray], store: MemoryStore) -> dict[str, float]:
    """Both systems on one kind of answers: medians, and the ratio's median and range."""
    config = LPMusicCapsConfig(**SIZES[args.size])
    tokenizer = build_tokenizer(config.vocab_size)
    processor = LPMusicCapsProcessor(LPMusicCapsFeatureExtractor(), tokenizer)
    rows = TokenizedRows(make_rows(kind, args.clips, config.vocab_size), processor)
    model = LPMusicCapsForConditionalGeneration(config).train().to(args.device)
    systems = [
        (descant_steps(model, rows, store, args.batch_size, args.steps),
         torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True), args.steps),
        (plain_steps(model, rows, tokenizer, waveforms, args.batch_size),
         torch.optim.AdamW(model.parameters(), lr=1e-5), args.plain_steps),
    ]  # fmt: skip
    for step, optimizer, _ in systems:
        step(optimizer)
    pairs = []
    for number in range(args.alternations):
        # Each goes first in turn, so that a machine that slows down slows both.
        turn = systems if number % 2 == 0 else systems[::-1]
        speeds = [measure(step, optimizer, steps, model) for step, optimizer, steps in turn]
        pairs.append(speeds if number % 2 == 0 else speeds[::-1])
    ratios = [ours[0] / plain[0] for ours, plain in pairs]
    (items, flops), (plain_items, plain_flops) = (
        [statistics.median(column) for column in zip(*system, strict=True)] for system in zip(*pairs, strict=True)
    )
    return {
        "tokens": float(rows.lengths.mean()), "items": items, "flops": flops, "plain_items": plain_items,
        "plain_flops": plain_flops, "ratio": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios),
    }  # fmt: skip


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--kinds", nargs="+", choices=ANSWERS, default=list(ANSWERS))
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--steps", type=int, default=6, help="steps of descant in one round")
    parser.add_argument("--plain_steps", type=int, default=3, help="of the plain loop, whose batches are all alike")
    parser.add_argument("--alternations", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    waveforms = [0.1 * random.standard_normal(160000).astype(np.float32) for _ in range(RECORDINGS)]
    store, peak = MemoryStore(waveforms), peak_flops(args.device)
    where = f"{args.device}, {args.threads} threads, peak {peak / 1e9:,.0f} GF/s"
    print(f"{args.size} model, batch {args.batch_size}, {where}")
    results = {}
    for kind in args.kinds:
        one = results[kind] = compare(kind, args, waveforms, store)
        print(
            f"{kind:6} ({one['tokens']:.0f} tokens) descant {one['items']:6.2f} items/s, "
            f"plain {one['plain_items']:6.2f}, "
            f"ratio {one['ratio']:.2f} ({one['lowest']:.2f} to {one['highest']:.2f}); "
            f"model FLOPs utilisation {one['flops'] / peak:.0%}, plain {one['plain_flops'] / peak:.0%}",
            flush=True,
        )
    print(json.dumps({"device": str(args.device), "peak_flops": peak, "kinds": results}))


if __name__ == "__main__":
    main()
