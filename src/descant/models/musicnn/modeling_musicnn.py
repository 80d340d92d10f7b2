"""musicnn: one or both networks over patches of a log-mel spectrogram, and states of the whole window beside them."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import conv1d, conv2d, pad, relu
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_musicnn import MusicnnConfig
from .peak_convolution_musicnn import temporal_peaks, timbral_peaks
from .spectrum_musicnn import hear_window, mean_of

# Weight decay has driven most filters of the published networks to nothing. The absolute weights of one below this sum
# to less than a rounding error of its bias: what it gives is one constant, which needs no convolution.
DEAD = 1e-9
# Patches that go through a network together: their states of each frame, 0.5 MB a patch, stay in the last-level cache.
GROUP = 16


@dataclass
class MusicnnOutput(ModelOutput):
    """What the networks make of one window each.

    last_hidden_state: (batch, patches, hidden_size), the penultimate states of all networks, then the states of the
        whole window, which are the same for all its patches: rhythm, timbre and tempo.
    pooler_output: (batch, hidden_size), its mean over the patches that hold any sound.
    tag_logits: (batch, patches, tags), of the tags in `config.tag_names`; a sigmoid makes each a probability.
    penultimate_states: (batch, networks, patches, penultimate_size).
    rhythm_state: (batch, rhythm_size), see `onset_autocorrelation`.
    timbre_state: (batch, timbre_size), see `timbre_statistics`; None where the configuration has none.
    tempo_state: (batch, tempo_size), see `describe_tempo`; None where the configuration has none.
    hidden_states: `last_hidden_state` alone, where hidden states are asked for.
    frame_states: (batch, networks, patches, patch_frames, frame_channels), where hidden states are asked for: the
        maxima over frequency of the timbral and temporal convolutions, then the convolutions over time behind them.
    """

    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    tag_logits: torch.Tensor | None = None
    penultimate_states: torch.Tensor | None = None
    rhythm_state: torch.Tensor | None = None
    timbre_state: torch.Tensor | None = None
    tempo_state: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    frame_states: torch.Tensor | None = None


class MusicnnNorm(nn.Module):
    """Batch normalisation of the last axis by its moving statistics, in training too: the networks come trained."""

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Normalise the last axis (…, channels) by the running mean and variance."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return hidden_states * scale + (self.bias - self.running_mean * scale)


class MusicnnBranch(nn.Module):
    """One convolution of the spectrogram, its normalisation, and the maximum over frequency of what comes out."""

    def __init__(self, taps: int, bands: int, filters: int, eps: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(filters, taps, bands)), nn.Parameter(torch.zeros(filters))
        self.norm = MusicnnNorm(filters, eps)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Normalised patches (patches, frames, mel bands) to (patches, frames, filters).

        The maximum comes before bias, relu and normalisation, which rise throughout; where the normalisation's scale
        is negative they fall, and the minimum is taken: the maximum for the filter's opposite.
        """
        sign = torch.where(self.norm.weight < 0, -1.0, 1.0)
        weight = self.weight * sign[:, None, None]
        alive = find_alive(weight)
        peaks = self.find_peaks(patches, weight[alive])
        if len(alive) < len(weight):
            peaks = peaks.new_zeros(*peaks.shape[:2], len(weight)).index_copy(2, alive, peaks)
        return self.norm(relu(sign * peaks + self.bias))

    def find_peaks(self, patches: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Correlate (patches, frames, mel bands) with filters (filters, taps, bands), and take the maximum."""
        _, taps, bands = weight.shape
        if bands == 1:
            return temporal_peaks(patches, weight[:, :, 0])
        padded = pad(patches, (0, 0, taps // 2, taps // 2))
        if torch.compiler.is_exporting():  # a convolution as such, which other runtimes have a kernel for
            return conv2d(padded[:, None], weight[:, None]).amax(dim=3).transpose(1, 2)
        return timbral_peaks(padded, weight)


class MusicnnFrameLayer(nn.Module):
    """A convolution over time of all channels, relu and normalisation."""

    def __init__(self, inputs: int, config: MusicnnConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(config.mid_channels, inputs, config.mid_kernel))
        self.bias = nn.Parameter(torch.zeros(config.mid_channels))
        self.norm = MusicnnNorm(config.mid_channels, config.batch_norm_eps)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(patches, frames, inputs) → (patches, frames, mid_channels)."""
        alive, half = find_alive(self.weight), self.weight.shape[2] // 2
        sums = conv1d(pad(states.transpose(1, 2), (half, half)), self.weight[alive]).transpose(1, 2)
        if len(alive) < len(self.weight):
            sums = sums.new_zeros(*sums.shape[:2], len(self.weight)).index_copy(2, alive, sums)
        return self.norm(relu(sums + self.bias))


def find_alive(weight: torch.Tensor) -> torch.Tensor:
    """Find the filters (filters, ...) that respond to their input, one at least; all where they are trained or traced.
    """
    everyone = torch.arange(len(weight), device=weight.device)
    if torch.compiler.is_exporting() or (torch.is_grad_enabled() and weight.requires_grad):
        return everyone
    alive = (weight.abs().flatten(1).sum(dim=1) > DEAD).nonzero()[:, 0]
    return alive if len(alive) else everyone[:1]


class MusicnnNetwork(nn.Module):
    """One of the networks: patches (patches, frames, mel bands) to penultimate states and tag logits."""

    def __init__(self, config: MusicnnConfig, tags: int) -> None:
        super().__init__()
        eps, pooled = config.batch_norm_eps, 2 * config.frame_channels
        self.input_norm = MusicnnNorm(1, eps)
        self.timbral = nn.ModuleList(
            MusicnnBranch(taps, bands, config.timbral_filters, eps) for taps, bands in config.timbral_kernels
        )
        self.temporal = nn.ModuleList(
            MusicnnBranch(taps, 1, config.temporal_filters, eps) for taps in config.temporal_kernels
        )
        inputs = [config.front_channels, *[config.mid_channels] * (config.mid_layers - 1)]
        self.mid = nn.ModuleList(MusicnnFrameLayer(width, config) for width in inputs)
        self.pooled_norm = MusicnnNorm(pooled, eps)
        self.dense = nn.Linear(pooled, config.penultimate_size)
        self.penultimate_norm = MusicnnNorm(config.penultimate_size, eps)
        self.classifier = nn.Linear(config.penultimate_size, tags)

    def forward(self, patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return states of frames, the penultimate state and the tag logits of each patch."""
        frame_states = self.encode_frames(patches)
        pooled = torch.stack([frame_states.amax(dim=1), frame_states.mean(dim=1)], dim=2).flatten(1)
        penultimate = self.penultimate_norm(relu(self.dense(self.pooled_norm(pooled))))
        return frame_states, penultimate, self.classifier(penultimate)

    def encode_frames(self, patches: torch.Tensor) -> torch.Tensor:
        """(patches, frames, mel bands) → (patches, frames, frame_channels)."""
        patches = self.input_norm(patches[..., None])[..., 0]
        front = torch.cat([branch(patches) for branch in (*self.timbral, *self.temporal)], dim=2)
        states = [front, self.mid[0](front)]
        for layer in self.mid[1:]:
            states.append(states[-1] + layer(states[-1]))
        return torch.cat(states, dim=2)


class MusicnnModel(PreTrainedModel):
    """Hears windows of music: states that a language model or classifier can learn from, and tags."""

    config_class = MusicnnConfig
    main_input_name = "input_features"
    input_modalities = ("audio",)
    _supports_sdpa = True  # it has no attention: what is asked for a whole model holds for it
    # A model with one of the networks loads from a folder with both.
    _keys_to_ignore_on_load_unexpected = (r"^networks\.",)

    def __init__(self, config: MusicnnConfig) -> None:
        super().__init__(config)
        self.networks = nn.ModuleDict(
            {name: MusicnnNetwork(config, len(config.tags_of(name))) for name in config.networks}
        )
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | MusicnnBranch | MusicnnFrameLayer):
            bound = 1 / math.sqrt(module.weight[0].numel())
            init.uniform_(module.weight, -bound, bound)
            init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, MusicnnNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)

    def forward(
        self, input_features: torch.Tensor, output_hidden_states: bool = False, return_dict: bool = True
    ) -> MusicnnOutput | tuple:
        """Run the networks over the non-overlapping patches of each window.

        input_features: (batch, frames, num_mel_bins), as the feature extractor gives them. What is left behind the
            last whole patch reaches the rhythm state only; less than one patch is padded with silence.
        Computes in float32 whatever the weights are stored in, under autocast too: half of its digits would be lost
        in sums over thousands of products.
        """
        with torch.autocast(input_features.device.type, enabled=False):
            output = self._encode(input_features.float(), output_hidden_states)
        return output if return_dict else output.to_tuple()

    def _encode(self, log_mel: torch.Tensor, output_hidden_states: bool) -> MusicnnOutput:
        patches = self.cut_patches(log_mel)  # (batch, patches, frames, mel bands)
        batch, count = patches.shape[:2]
        with_sound = (patches != 0).flatten(2).any(dim=2)
        networks = self.networks.values()
        results = [run_network(network, patches.flatten(0, 1), output_hidden_states) for network in networks]
        frames, each_penultimate, logits = zip(*results, strict=True)
        penultimate = torch.stack(each_penultimate, dim=1).unflatten(0, (batch, count)).transpose(1, 2)
        rhythm, timbre, tempo = hear_window(log_mel, self.config)
        of_window = [state[:, None].expand(-1, count, -1) for state in (rhythm, timbre, tempo) if state is not None]
        states = torch.cat([*penultimate.unbind(dim=1), *of_window], dim=2).to(self.dtype)
        output = MusicnnOutput(
            last_hidden_state=states,
            pooler_output=mean_of(states, with_sound),
            tag_logits=torch.cat(logits, dim=1).unflatten(0, (batch, count)),
            penultimate_states=penultimate,
            rhythm_state=rhythm,
            timbre_state=timbre,
            tempo_state=tempo,
        )
        if output_hidden_states:
            output.hidden_states = (states,)
            output.frame_states = torch.stack(frames, dim=1).unflatten(0, (batch, count)).transpose(1, 2)
        return output

    def cut_patches(self, log_mel: torch.Tensor) -> torch.Tensor:
        """Cut windows (batch, frames, mel bands) into patches (batch, patches, patch_frames, mel bands)."""
        size = self.config.patch_frames
        log_mel = pad(log_mel, (0, 0, 0, max(0, size - log_mel.shape[1])))
        count = log_mel.shape[1] // size
        return log_mel[:, : count * size].unflatten(1, (count, size))


def run_network(network: nn.Module, patches: torch.Tensor, with_frames: bool) -> tuple[torch.Tensor | None, ...]:
    """Run a network over patches, a group at a time; states of frames only where they are wanted."""
    weights = {}
    if next(network.parameters()).dtype != torch.float32:
        weights = {name: weight.float() for name, weight in network.state_dict(keep_vars=True).items()}
    groups = [patches] if torch.compiler.is_exporting() else patches.split(GROUP)  # a graph has no number of groups
    results = [functional_call(network, weights, (group,)) for group in groups]
    frames, penultimate, logits = zip(*results, strict=True)
    return torch.cat(frames) if with_frames else None, torch.cat(penultimate), torch.cat(logits)


MusicnnModel.register_for_auto_class("AutoModel")

__all__ = ["MusicnnModel", "MusicnnOutput"]
