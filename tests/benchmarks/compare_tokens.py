"""Whether the fast search gives the tokens of transformers' own on a trained model: the demo's test questions.

    accelerate launch recipes/mi_short_long.py --demo --init_from none --output_dir outputs/bart
    python tests/benchmarks/compare_tokens.py outputs/bart    # 1,320 questions, 8 settings, 3 minutes

Each question is answered by `generate` and by `generate(fast=False)` in the same batch; samples with the same seed.
The exit status is 1 where an answer differs.
"""

import argparse
import sys

import torch
from tqdm import tqdm
from transformers import PreTrainedModel, ProcessorMixin

from descant.answering.model_folder import find_model, load_model
from descant.data.annotations import Row
from descant.data.corpus import Corpus, limit_clips, load_corpus

SETTINGS = {
    "greedy": {"num_beams": 1},
    "2 beams": {"num_beams": 2},
    "5 beams": {"num_beams": 5},
    "10 beams": {"num_beams": 10},
    "5 beams, penalties": {
        "num_beams": 5, "length_penalty": 2.0, "repetition_penalty": 1.2, "no_repeat_ngram_size": 2, "min_length": 8,
    },
    "4 beams, early stopping": {"num_beams": 4, "early_stopping": True},
    "4 beams, never stopping early": {"num_beams": 4, "early_stopping": "never", "length_penalty": 0.6},
    "sampling": {"num_beams": 1, "do_sample": True, "top_p": 0.9, "top_k": 0},
}  # fmt: skip
BATCH_SIZE = 32


def main(argv: list[str] | None = None) -> int:
    """Compare and print; 1 if an answer differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="an LP-MusicCaps model folder")
    parser.add_argument("--max_clips", type=int, help="of the test split (default: all)")
    args = parser.parse_args(argv)
    model, processor = load_model(find_model(args.model))
    corpus = load_corpus("demo", ["all"])
    corpus = limit_clips(corpus, args.max_clips) if args.max_clips else corpus
    batches = make_batches(corpus, processor)
    differing = 0
    for name, settings in SETTINGS.items():
        pairs = [pair for batch in tqdm(batches, desc=name) for pair in answer_twice(model, batch, settings)]
        differ = [place for place, (fast, plain) in enumerate(pairs) if fast != plain]
        length = sum(len(fast) for fast, _ in pairs) / len(pairs)
        listed = f" {differ}" if differ else ""
        print(f"{name}: {len(differ)} of {len(pairs)} answers differ{listed} ({length:.1f} tokens an answer)")
        differing += len(differ)
    return int(differing > 0)


def make_batches(corpus: Corpus, processor: ProcessorMixin) -> list[dict[str, torch.Tensor]]:
    """The test questions in batches, as `generate` takes them; each clip's sound once."""
    rows = corpus.rows("all", "test")
    starts = range(0, len(rows), BATCH_SIZE)
    return [make_batch(rows[start : start + BATCH_SIZE], corpus, processor) for start in starts]


def make_batch(rows: list[Row], corpus: Corpus, processor: ProcessorMixin) -> dict[str, torch.Tensor]:
    extractor = processor.feature_extractor
    clips = list(dict.fromkeys(row.clip_id for row in rows))
    audio = [corpus.audio[clip].load(extractor.sampling_rate, extractor.window_s)[0] for clip in clips]
    heard = processor(audio=audio, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    asked = processor(text=[row.question for row in rows], return_tensors="pt")
    index = torch.tensor([clips.index(row.clip_id) for row in rows])
    return {**asked, "input_features": heard["input_features"], "clip_index": index}


def answer_twice(
    model: PreTrainedModel, batch: dict[str, torch.Tensor], settings: dict[str, object]
) -> list[tuple[list[int], list[int]]]:
    """The tokens of each answer, by the fast search and by transformers' own, without padding."""
    told = []
    for fast in (True, False):
        torch.manual_seed(0)
        tokens = model.generate(**batch, **settings, fast=fast).tolist()
        told.append([[one for one in row if one != model.config.pad_token_id] for row in tokens])
    return list(zip(*told, strict=True))


if __name__ == "__main__":
    sys.exit(main())
