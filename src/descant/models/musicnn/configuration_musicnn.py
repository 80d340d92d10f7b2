"""The tags and sizes of musicnn's networks, and of the rhythm state beside them."""

from typing import Any

from transformers import PreTrainedConfig

# The tags of each published network, in the order of its outputs.
MTT_TAGS = (
    "guitar, classical, slow, techno, strings, drums, electronic, rock, fast, piano, ambient, beat, violin, vocal, "
    "synth, female, indian, opera, male, singing, vocals, no vocals, harpsichord, loud, quiet, flute, woman, "
    "male vocal, no vocal, pop, soft, sitar, solo, man, classic, choir, voice, new age, dance, male voice, "
    "female vocal, beats, harp, cello, no voice, weird, country, metal, female voice, choral"
)
MSD_TAGS = (
    "rock, pop, alternative, indie, electronic, female vocalists, dance, 00s, alternative rock, jazz, beautiful, "
    "metal, chillout, male vocalists, classic rock, soul, indie rock, Mellow, electronica, 80s, folk, 90s, chill, "
    "instrumental, punk, oldies, blues, hard rock, ambient, acoustic, experimental, female vocalist, guitar, Hip-Hop, "
    "70s, party, country, easy listening, sexy, catchy, funk, electro, heavy metal, Progressive rock, 60s, rnb, "
    "indie pop, sad, House, happy"
)


class MusicnnConfig(PreTrainedConfig):
    """Sizes of the networks, which all have the same layout; the defaults are those of the published two.

    networks: names of the networks that the model runs, in the order of its states and tags. "mtt" was trained on
        MagnaTagATune, "msd" on the Million Song Dataset with Last.fm's tags.
    tags: network → its tags, in the order of its outputs; other networks than `networks` may be among them.
    num_mel_bins: mel bands of one frame.
    patch_frames: frames of one patch, which the networks judge by itself (187 frames are 2.99 s).
    timbral_kernels: (frames, mel bands) of the convolutions that slide over time and frequency.
    temporal_kernels: frames of the convolutions that slide over each mel band by itself.
    timbral_filters, temporal_filters: filters of each of these convolutions.
    mid_layers, mid_kernel, mid_channels: the convolutions over time behind them.
    penultimate_size: width of a network's last hidden layer.
    rhythm_bands, rhythm_lags: the rhythm state holds the onset autocorrelation of this many frequency bands, at this
        many lags of one frame (200 lags of 16 ms: beats and bars of up to 3.2 s).
    """

    model_type = "musicnn"

    networks: list[str] | tuple[str, ...] = ("mtt", "msd")
    tags: dict[str, list[str]] | None = None
    num_mel_bins: int = 96
    patch_frames: int = 187
    timbral_kernels: list | tuple = ((7, 38), (7, 67))
    temporal_kernels: list | tuple = (128, 64, 32)
    timbral_filters: int = 204
    temporal_filters: int = 51
    mid_layers: int = 3
    mid_kernel: int = 7
    mid_channels: int = 64
    penultimate_size: int = 200
    batch_norm_eps: float = 1e-3
    rhythm_bands: int = 2
    rhythm_lags: int = 200
    timbre_cepstra: int = 0
    tempo_bands: int = 0
    tempo_periods: int = 48
    # Its states all have one width and come after the last layer: there is nothing to mix over layers.
    num_hidden_layers: int = 0

    def __post_init__(self, **kwargs: Any) -> None:
        self.tags = tags = self.tags or {"mtt": MTT_TAGS.split(", "), "msd": MSD_TAGS.split(", ")}
        unknown = [name for name in self.networks if name not in tags]
        if unknown or not self.networks:
            raise ValueError(f"networks is {list(self.networks)}: give one or more of {', '.join(tags)}")
        if any(bands > self.num_mel_bins for _, bands in self.timbral_kernels):
            raise ValueError(f"a kernel of timbral_kernels spans over num_mel_bins, {self.num_mel_bins}")
        super().__post_init__(**kwargs)

    @property
    def front_channels(self) -> int:
        """Channels that the timbral and temporal convolutions make together."""
        timbral = len(self.timbral_kernels) * self.timbral_filters
        return timbral + len(self.temporal_kernels) * self.temporal_filters

    @property
    def frame_channels(self) -> int:
        """Channels of a network's states of each frame."""
        return self.front_channels + self.mid_layers * self.mid_channels

    @property
    def rhythm_size(self) -> int:
        """Width of the rhythm state."""
        return self.rhythm_bands * self.rhythm_lags

    @property
    def timbre_size(self) -> int:
        """Width of the timbre state."""
        pairs = self.timbre_cepstra * (self.timbre_cepstra + 1) // 2
        return 4 * self.num_mel_bins + pairs if self.timbre_cepstra else 0

    @property
    def tempo_size(self) -> int:
        """Width of the tempo state."""
        return 2 * self.tempo_bands * self.tempo_periods

    @property
    def hidden_size(self) -> int:
        """Width of the state of a patch: the penultimate states of all networks, rhythm, timbre and tempo state."""
        return len(self.networks) * self.penultimate_size + self.rhythm_size + self.timbre_size + self.tempo_size

    @property
    def tag_names(self) -> list[str]:
        """What the tag logits stand for, network by network; two networks may have a tag of the same name."""
        return [tag for name in self.networks for tag in self.tags_of(name)]

    def tags_of(self, network: str) -> list[str]:
        """Return the tags of one network, in the order of its outputs."""
        return (self.tags or {})[network]


MusicnnConfig.register_for_auto_class()

__all__ = ["MusicnnConfig"]
