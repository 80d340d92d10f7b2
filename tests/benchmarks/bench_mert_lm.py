"""How fast MertLM answers: one question at a time with everything recomputed, and `answer_many`, side by side.

    python tests/benchmarks/bench_mert_lm.py --text_model FOLDER_OR_ID [--audio_encoder FOLDER_OR_ID]
    python tests/benchmarks/bench_mert_lm.py --quick          # tiny random parts, seconds

Both answer the same questions about the same windows in one process, in turn, and ratios are paired by turn. Without
--audio_encoder a random encoder of a third of MERT's depth stands in. Set OMP_NUM_THREADS to choose cores.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
from transformers import HubertConfig, HubertModel, PreTrainedModel, Wav2Vec2FeatureExtractor

from descant.models.mert_lm import MertLMProcessor, join_parts
from descant.training.start_mert_lm import new_tiny

QUESTIONS = (
    "What is the genre of this song?", "Which instruments play?", "How fast is it?", "What is the mood?",
    "Are there drums?", "Is there a bass, and of what kind?", "What plays the main melody?", "What is the metre?",
)  # fmt: skip
MERT_SIZES = {
    "num_hidden_layers": 4, "conv_kernel": (10, 3, 3, 3, 3, 2, 2), "conv_stride": (5, 2, 2, 2, 2, 2, 2),
    "conv_dim": (512,) * 7, "feat_extract_norm": "group", "conv_bias": False,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audio_encoder")
    parser.add_argument("--text_model")
    parser.add_argument("--quick", action="store_true", help="tiny random parts")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--sample", type=int, default=8, help="questions that the plain way answers each turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--max_new_tokens", type=int, default=12)
    args = parser.parse_args()
    if args.quick:
        model, processor = tiny_model()
    elif args.text_model:
        model, processor = joined(args.audio_encoder, args.text_model)
    else:
        parser.error("give --text_model, or --quick")
    print(format_result(measure(model, processor, args.clips, args.sample, args.turns, args.max_new_tokens)))


def tiny_model() -> tuple[PreTrainedModel, MertLMProcessor]:
    torch.manual_seed(0)
    model, processor = new_tiny(QUESTIONS, window_s=2.0, pooling="stride", pool_stride=15)
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.3)
    return model.eval(), processor


def joined(audio_encoder: str | None, text_model: str) -> tuple[PreTrainedModel, MertLMProcessor]:
    """The parts, with a projector that keeps the scale of words."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        if audio_encoder is None:
            HubertModel(HubertConfig(**MERT_SIZES)).save_pretrained(folder)
            Wav2Vec2FeatureExtractor(sampling_rate=24_000).save_pretrained(folder)
        return join_parts(audio_encoder or folder, text_model, projector="mlp")


@torch.no_grad()
def measure(
    model: PreTrainedModel, processor: MertLMProcessor, clips: int, sample: int, turns: int, max_new_tokens: int
) -> dict[str, object]:
    """Questions a second of both ways in each turn, and the sampled answers that differ."""
    random = torch.Generator().manual_seed(0)
    features = 0.3 * torch.randn(clips, *processor.feature_extractor.feature_shape, generator=random)
    prompts = [processor.prompt_ids(question) for question in QUESTIONS]
    pairs = [(clip, features[clip], prompt) for clip in range(clips) for prompt in prompts]
    settings = {"max_new_tokens": max_new_tokens}
    plain, ours, differing = [], [], []
    for turn in range(turns):
        chosen = range(turn % 7, len(pairs), max(1, len(pairs) // sample))[:sample]
        found, seconds = timed(lambda chosen=chosen: answer_alone(model, [pairs[i] for i in chosen], settings))
        plain.append(len(chosen) / seconds)
        answers, seconds = timed(lambda: {p: tokens for p, tokens, _ in model.answer_many(pairs, **settings)})
        ours.append(len(pairs) / seconds)
        differing += [place for place, tokens in zip(chosen, found, strict=True) if answers[place] != tokens]
    ratios = [fast / slow for fast, slow in zip(ours, plain, strict=True)]
    return {"plain": plain, "ours": ours, "ratios": ratios, "differing": differing, "questions": len(pairs)}


def answer_alone(model: PreTrainedModel, pairs: list[tuple], settings: dict[str, int]) -> list[list[int]]:
    """One question at a time: encode its window, read its whole prompt, write through transformers' own loop."""
    return [
        model.generate(input_features=features[None], prompt_input_ids=torch.tensor([prompt]), **settings)[0].tolist()
        for _, features, prompt in pairs
    ]


def timed(work: Callable[[], object]) -> tuple[object, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started


def format_result(result: dict[str, object]) -> str:
    plain, ours = (statistics.median(result[name]) for name in ("plain", "ours"))
    ratios = ", ".join(f"{ratio:.1f}" for ratio in result["ratios"])
    return (
        f"{result['questions']} questions: one at a time {plain:.2f}/s, answer_many {ours:.2f}/s; "
        f"ratios by turn {ratios} (median {statistics.median(result['ratios']):.1f}); "
        f"{len(result['differing'])} sampled answers differ"
    )


if __name__ == "__main__":
    main()
