"""musicnn once more, in plain torch convolutions, and a small configuration of it: what tests and a benchmark need."""

import itertools

import torch
from torch.nn.functional import batch_norm, conv1d, conv2d, linear, pad, relu

from descant.models.musicnn import MusicnnConfig, MusicnnModel

SMALL = {
    "networks": ["low", "high"],
    "tags": {"low": ["calm", "slow"], "high": ["loud", "fast", "calm"]},
    "num_mel_bins": 12,
    "patch_frames": 20,
    "timbral_kernels": [[3, 5], [5, 8]],
    "temporal_kernels": [8, 4],
    "timbral_filters": 6,
    "temporal_filters": 4,
    "mid_kernel": 3,
    "mid_channels": 5,
    "penultimate_size": 7,
    "rhythm_lags": 10,
}
StateDict = dict[str, torch.Tensor]


def small_model(seed: int = 0, **settings: object) -> MusicnnModel:
    """A model of kilobytes with random weights, whose normalisations scale up, down, and the other way round."""
    torch.manual_seed(seed)
    model = MusicnnModel(MusicnnConfig(**{**SMALL, **settings}))
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            if "norm" in name:
                weight.copy_(torch.rand_like(weight) + 0.5 if "var" in name else torch.randn_like(weight))
    return model.eval()


def plain_network(weights: StateDict, patches: torch.Tensor, eps: float = 1e-3) -> StateDict:
    """One network over patches (patches, frames, mel bands), layer by layer as it is described: every map of every
    convolution is made, and normalised before its maximum over frequency is taken.
    """

    def norm(values: torch.Tensor, name: str) -> torch.Tensor:
        kinds = ("running_mean", "running_var", "weight", "bias")
        return batch_norm(values, *(weights[f"{name}.{kind}"] for kind in kinds), eps=eps)

    spectrogram = norm(patches[:, None], "input_norm")  # (patches, 1, frames, mel bands)
    fronts = []
    for kind, name in itertools.product(("timbral", "temporal"), "0123456789"):
        if f"{kind}.{name}.weight" in weights:
            kernel, bias = weights[f"{kind}.{name}.weight"][:, None], weights[f"{kind}.{name}.bias"]
            before = (kernel.shape[2] - 1) // 2
            maps = relu(conv2d(pad(spectrogram, (0, 0, before, kernel.shape[2] - 1 - before)), kernel, bias))
            fronts.append(norm(maps, f"{kind}.{name}.norm").amax(dim=3))
    states = [torch.cat(fronts, dim=1)]  # (patches, channels, frames)
    for layer in ("mid.0", "mid.1", "mid.2"):
        kernel, bias = weights[f"{layer}.weight"], weights[f"{layer}.bias"]
        half = kernel.shape[2] // 2
        found = norm(relu(conv1d(pad(states[-1], (half, half)), kernel, bias)), f"{layer}.norm")
        states.append(found if len(states) == 1 else states[-1] + found)
    frames = torch.cat(states, dim=1)
    pooled = torch.stack([frames.amax(dim=2), frames.mean(dim=2)], dim=2).flatten(1)
    dense = relu(linear(norm(pooled, "pooled_norm"), weights["dense.weight"], weights["dense.bias"]))
    penultimate = norm(dense, "penultimate_norm")
    logits = linear(penultimate, weights["classifier.weight"], weights["classifier.bias"])
    return {"frames": frames.transpose(1, 2), "penultimate": penultimate, "logits": logits}


def network_weights(model: MusicnnModel, name: str) -> StateDict:
    """The weights of one network, by their names within it."""
    return dict(model.networks[name].state_dict())
