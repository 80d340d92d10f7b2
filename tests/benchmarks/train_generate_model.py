"""Trains the model of bench_generate.py: bart-base size, answers as long as those of the published checkpoints.

    python tests/benchmarks/train_generate_model.py --output ~/.cache/descant/bench_generate

What an answer says does not matter for its speed, when it ends does. Each length has words of its own in questions;
in answers, each number of tokens that are still to come has. So little is to be learnt: which question asks for how
many, and to count down. The lengths are the quantiles of what the published checkpoints answered (mi_short: 16 tokens
on average; mi_short_long: 99, most of them cut at 128, some very short). The model gets about as sure of its words as
a trained one is; one that chose among thousands of nearly equal answers would leave the choice to rounding.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch.nn.utils.rnn import pad_sequence
from transformers import BartTokenizer

from descant.data.audio import load_audio
from descant.data.demo import demo_dir
from descant.models.lp_music_caps import (
    LPMusicCapsConfig,
    LPMusicCapsFeatureExtractor,
    LPMusicCapsForConditionalGeneration,
    LPMusicCapsProcessor,
)

# Tokens of an answer with <s> and </s>; CUT means that the answer goes on to the 128th token and is cut there.
CUT = 128
SHORT = (8, 9, 10, 11, 12, 13, 14, 15, 17, 20, 24, 36)
LONG = (8, 12, 20, CUT, CUT, CUT, CUT, CUT, CUT, CUT, CUT, CUT)
LENGTHS = sorted({*SHORT, *LONG})
ENDING = max(SHORT) - 2  # places in an answer that ends, by the number of tokens to come
GOING_ON = CUT - 2  # places in a CUT answer; the last goes on to the first, so none of them is near an end
WORDS = 20  # different words for one place
SURENESS = 2.5  # the exponent of Zipf's law over them: the first has a probability of 3/4
SHOWN = 36  # tokens of a CUT answer that training shows, from its beginning or from anywhere; no end is among them


@dataclass
class Writer:
    """Writes questions and answers as token ids."""

    rng: np.random.Generator
    vocab_size: int

    def question(self, length: int) -> list[int]:
        """A question of 6 to 16 tokens."""
        own = 100 + 10 * LENGTHS.index(length)
        return [0, *(own + self.rng.integers(10, size=self.rng.integers(4, 15))).tolist(), 2]

    def answer(self, length: int) -> list[int]:
        """An answer of Zipf-distributed words; of a CUT one a part without an end, one in four from its beginning."""
        places = self.places_going_on() if length == CUT else np.arange(length - 3, -1, -1)
        ranks = np.minimum(self.rng.zipf(SURENESS, size=len(places)), WORDS) - 1
        words = (1000 + (ranks * (ENDING + GOING_ON) + places) * self.stride).tolist()
        return [0, *words] if length == CUT else [0, *words, 2]

    def places_going_on(self) -> np.ndarray:
        """The places of the words of a CUT answer that training shows.

        Each place has words of its own, or the ban on repeating three words would drive the search off the likely
        ones.
        """
        start = self.rng.integers(GOING_ON) if self.rng.random() < 0.75 else 0
        return ENDING + (start + np.arange(SHOWN - 1)) % GOING_ON

    def words(self) -> list[int]:
        """All tokens that an answer may have."""
        return [0, 2, *range(1000, 1000 + WORDS * (ENDING + GOING_ON) * self.stride, self.stride)]

    @property
    def stride(self) -> int:
        """The words of answers lie this far apart, all over the vocabulary."""
        return (self.vocab_size - 1000) // (WORDS * (ENDING + GOING_ON))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=14)
    parser.add_argument("--lr", type=float, default=4e-4)
    args = parser.parse_args()
    torch.manual_seed(0)
    model = train(LPMusicCapsForConditionalGeneration(LPMusicCapsConfig()), 60 * args.minutes, args.lr)
    vary(model, Writer(np.random.default_rng(1), model.config.vocab_size))
    model.save_pretrained(args.output)
    make_processor(model.config.vocab_size).save_pretrained(args.output)
    print(json.dumps({"model": str(args.output)}))


def train(
    model: LPMusicCapsForConditionalGeneration, seconds: float, lr: float
) -> LPMusicCapsForConditionalGeneration:
    """Train the decoder and all embeddings, in turn on short and on long answers, for some seconds."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).train()
    embeds = embed_clips(model, 40)
    writer = Writer(np.random.default_rng(0), model.config.vocab_size)
    weights = [*model.model.decoder.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=lr, weight_decay=0.0, fused=True)
    bfloat16 = device == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    start, step = time.monotonic(), 0
    while time.monotonic() - start < seconds:
        left = 1 - (time.monotonic() - start) / seconds
        optimizer.param_groups[0]["lr"] = lr * min(1, (step + 1) / 30, max(0.05, 4 * left))
        lengths = writer.rng.choice(LONG if step % 2 else SHORT, size=16)
        batch = make_batch(writer, lengths.tolist(), embeds)
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            with torch.no_grad():
                encoded, mask = model.encode(**batch)
            loss = model(encoder_outputs=encoded, attention_mask=mask, labels=batch["labels"]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 20 == 0:
            print(f"step {step}: loss {loss.item():.3f} after {time.monotonic() - start:.0f} s", flush=True)
        step += 1
    return model.cpu().eval()


@torch.no_grad()
def vary(model: LPMusicCapsForConditionalGeneration, writer: Writer, directions: int = 12) -> None:
    """Make answers differ by clip and by the words of the question, which minutes of training do not teach.

    What the last layer hears in questions that ask for the same length differs most in some `directions`; random
    features of those are added to what it makes of what it hears. All logits are doubled, as the model is less sure of
    its words then. The strengths are the largest that leave the lengths of answers as they are.
    """
    questions = np.repeat(LENGTHS, 8)
    batch = make_batch(writer, questions.tolist(), embed_clips(model, 40))
    heard = listen(model, batch | {"labels": None}, writer)  # (questions, tokens, d_model)
    mean = heard.mean(dim=(0, 1))
    apart = heard - heard.reshape(len(LENGTHS), -1, heard.shape[2]).mean(dim=1).repeat_interleave(8, 0)[:, None]
    _, sizes, axes = torch.linalg.svd(apart.flatten(0, 1), full_matrices=False)
    scaled = axes[:directions] / sizes[:directions, None] * len(apart.flatten(0, 1)) ** 0.5
    generator = torch.Generator().manual_seed(1)
    features = 2 * directions**-0.5 * torch.randn(len(mean), len(scaled), generator=generator) @ scaled
    last = model.model.decoder.layers[-1]
    last.encoder_attn.out_proj.weight += features
    last.encoder_attn.out_proj.bias -= features @ mean
    last.final_layer_norm.weight *= 2
    last.final_layer_norm.bias *= 2


def listen(
    model: LPMusicCapsForConditionalGeneration, batch: dict[str, torch.Tensor], writer: Writer
) -> torch.Tensor:
    """What the last layer hears at the first few tokens of made-up answers, (questions, 6, d_model)."""
    heard = []
    last = model.model.decoder.layers[-1].encoder_attn.out_proj
    hook = last.register_forward_pre_hook(lambda module, inputs: heard.append(inputs[0]))
    count = len(batch["prompt_input_ids"])
    words = writer.rng.choice(writer.words()[2:], size=(count, 6))
    tokens = np.concatenate([np.full((count, 1), 2), np.zeros((count, 1), dtype=int), words], axis=1)
    model(**batch, decoder_input_ids=torch.from_numpy(tokens))
    hook.remove()
    return heard[0].view(count, 8, -1)[:, 2:]


def embed_clips(model: LPMusicCapsForConditionalGeneration, count: int) -> torch.Tensor:
    """The demo corpus's first clips as the untrained convolutions hear them."""
    with torch.no_grad():
        files = sorted((demo_dir() / "audio").iterdir())[:count]
        return model.get_audio_features(extract_mels([load_audio(file) for file in files]).to(model.device))


def make_processor(vocab_size: int) -> LPMusicCapsProcessor:
    """A processor of the right size: the tokenizer knows single bytes, and has a made-up word for every other id."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *ByteLevel.alphabet()]
    vocab = {word: place for place, word in enumerate([*special, *map("Ġw{}".format, range(vocab_size))][:vocab_size])}
    return LPMusicCapsProcessor(LPMusicCapsFeatureExtractor(), BartTokenizer(vocab=vocab, merges=[]))


def extract_mels(waveforms: list[np.ndarray]) -> torch.Tensor:
    """Log-mels (clips, 128, 1001)."""
    waveforms = [waveform[:160_000] for waveform in waveforms]
    return LPMusicCapsFeatureExtractor()(waveforms, sampling_rate=16_000, return_tensors="pt")["input_features"]


def make_batch(writer: Writer, lengths: list[int], embeds: torch.Tensor) -> dict[str, torch.Tensor]:
    """A training batch of questions with answers of these lengths."""
    questions = [torch.tensor(writer.question(length)) for length in lengths]
    answers = [torch.tensor(writer.answer(length)) for length in lengths]
    clips = torch.from_numpy(writer.rng.integers(len(embeds), size=len(lengths)))
    batch = {
        "clip_index": clips,
        "prompt_input_ids": pad_sequence(questions, batch_first=True, padding_value=1),
        "prompt_attention_mask": pad_sequence([torch.ones_like(q) for q in questions], batch_first=True),
        "labels": pad_sequence(answers, batch_first=True, padding_value=-100),
    }
    return {name: value.to(embeds.device) for name, value in batch.items()} | {"audio_embeds": embeds}


if __name__ == "__main__":
    main()
