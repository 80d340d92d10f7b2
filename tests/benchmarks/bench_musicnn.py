"""How fast musicnn hears: both networks over batches of patches, by plain convolutions and by the model, in turn.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_musicnn.py
    OMP_NUM_THREADS=1 python tests/benchmarks/bench_musicnn.py --patches 2 --turns 2 --small    # seconds

Both go over the same patches in one process on one thread, in turn, and ratios are paired by turn. × real time is
seconds of sound a second. The front end's own speed stands beside it.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from descant.models.musicnn import PRETRAINED, MusicnnFeatureExtractor, MusicnnModel

sys.path.append(str(Path(__file__).parents[1]))  # pytest puts it there itself

from plain_musicnn import network_weights, plain_network, small_model

HOP_S = 256 / 16_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patches", type=int, default=16, help="patches of one batch (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--small", action="store_true", help="a random model of kilobytes")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = small_model() if args.small else MusicnnModel.from_pretrained(PRETRAINED)
    print(format_result(measure(model.eval(), args.patches, args.turns)))


@torch.inference_mode()
def measure(model: MusicnnModel, patches: int, turns: int) -> dict[str, object]:
    """Seconds of both ways by turn, the largest difference of a tag's probability, and the front end's seconds."""
    config = model.config
    generator = torch.Generator().manual_seed(0)
    log_mel = 3 * torch.rand(1, patches * config.patch_frames, config.num_mel_bins, generator=generator)
    separate = log_mel.view(patches, config.patch_frames, config.num_mel_bins)
    weights = [network_weights(model, name) for name in config.networks]

    def hear_plainly() -> torch.Tensor:
        return torch.cat([plain_network(network, separate)["logits"] for network in weights], dim=1)

    ways: dict[str, Callable[[], torch.Tensor]] = {"plain": hear_plainly, "ours": lambda: model(log_mel).tag_logits[0]}
    logits = {name: way() for name, way in ways.items()}  # warms up too
    seconds = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            seconds[name].append(timed(way))
    sound_s = patches * config.patch_frames * HOP_S
    extractor = MusicnnFeatureExtractor(window_s=sound_s, num_mel_bins=config.num_mel_bins)
    waveform = torch.randn(extractor.num_samples, generator=generator)
    extractor.extract(waveform)
    return {
        "seconds": seconds,
        "sound_s": sound_s,
        "front_end": statistics.median(timed(lambda: extractor.extract(waveform)) for _ in range(turns)),
        "difference": float((logits["plain"].sigmoid() - logits["ours"].sigmoid()).abs().max()),
        "patches": patches,
    }


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def format_result(result: dict) -> str:
    """× real time as median and range over turns, and the ratios paired by turn."""
    plain, ours = result["seconds"]["plain"], result["seconds"]["ours"]
    ratios = [slow / fast for slow, fast in zip(plain, ours, strict=True)]
    speeds = {name: [result["sound_s"] / s for s in spent] for name, spent in result["seconds"].items()}
    return (
        f"{result['patches']} patches ({result['sound_s']:.1f} s of sound), all networks, 1 thread, "
        f"load average {os.getloadavg()[0]:.1f}\n"
        f"plain convolutions {spread(speeds['plain'])} × real time, ours {spread(speeds['ours'])} × real time, "
        f"front end {result['sound_s'] / result['front_end']:.0f} × real time\n"
        f"ratio by turn {spread(ratios)}; probabilities differ by {result['difference']:.1e} at most"
    )


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
