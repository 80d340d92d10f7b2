"""The model a run starts from: a saved folder or Hub id, or a new one of base or small size."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import (
    AutoModelForMultimodalLM,
    AutoProcessor,
    AutoTokenizer,
    BartForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    set_seed,
)

from descant.hub_client import load_patiently, patiently
from descant.models.lp_music_caps import (
    LPMusicCapsConfig,
    LPMusicCapsFeatureExtractor,
    LPMusicCapsForConditionalGeneration,
    LPMusicCapsProcessor,
)
from descant.training.recipe import TrainingSettings

log = logging.getLogger(__name__)

NewModel = Callable[[TrainingSettings, Iterable[str]], tuple[PreTrainedModel, ProcessorMixin]]

BASE_SIZES = {
    "d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "encoder_attention_heads": 12,
    "decoder_attention_heads": 12, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072, "vocab_size": 50265,
}  # fmt: skip
SMALL_SIZES = {
    "d_model": 128, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 256, "decoder_ffn_dim": 256, "max_position_embeddings": 256,
    "dropout": 0.0, "init_std": 0.08,
}  # fmt: skip
SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]  # in the order of BART's ids 0 to 3
SMALL_VOCABULARY = 1200


def load_start(
    settings: TrainingSettings, texts: Iterable[str], new_model: NewModel | None = None
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """The model and processor to train, in float32.

    Args:
        settings: `init_from` loads; otherwise `new_model` builds from a seeded state.
        texts: the training split's questions and answers, from which a small model's tokenizer is made.
        new_model: builds from settings and texts; None builds an LPMusicCaps of `model_size` from random weights.

    Raises:
        ValueError: `init_from` is a pickle, or cannot be loaded.
    """
    if settings.init_from:
        return _load(settings.init_from)
    set_seed(settings.seed)
    return (new_model or _new_lp_music_caps)(settings, texts)


def _new_lp_music_caps(settings: TrainingSettings, texts: Iterable[str]) -> tuple[PreTrainedModel, ProcessorMixin]:
    log.warning("no --init_from: training starts from random weights (the reference starts from a captioner)")
    return _new_small(texts) if settings.model_size == "small" else _new_base(settings)


def _load(source: str) -> tuple[PreTrainedModel, ProcessorMixin]:
    if source.endswith((".pth", ".pt", ".bin")):
        raise ValueError(
            f"--init_from {source}: a pickle is not loaded; run `descant convert {source} --bart facebook/bart-base "
            "--output DIR` and pass --init_from DIR"
        )

    def load() -> tuple[PreTrainedModel, ProcessorMixin]:
        model = AutoModelForMultimodalLM.from_pretrained(source, dtype=torch.float32)
        return model, AutoProcessor.from_pretrained(source)

    with naming_failures(f"--init_from {source}"):
        return load_patiently(load, source)


def _new_base(settings: TrainingSettings) -> tuple[PreTrainedModel, ProcessorMixin]:
    with naming_failures(f"--tokenizer {settings.tokenizer}"):
        tokenizer = patiently(partial(AutoTokenizer.from_pretrained, settings.tokenizer), settings.tokenizer)
    model = LPMusicCapsForConditionalGeneration(LPMusicCapsConfig(**BASE_SIZES))
    if settings.text_init_from:
        load_text_side(model, settings.text_init_from)
    return model, LPMusicCapsProcessor(LPMusicCapsFeatureExtractor(), tokenizer)


def load_text_side(model: PreTrainedModel, source: str) -> None:
    """Give `model` the encoder, decoder and embeddings of a BART of the same sizes, a folder or Hub id.

    Raises:
        ValueError: it cannot be loaded, or a weight is missing or of another size.
    """
    with naming_failures(f"--text_init_from {source}"):
        load = partial(BartForConditionalGeneration.from_pretrained, source, dtype=torch.float32)
        text_model = load_patiently(load, source)
        model.model.load_state_dict(text_model.model.state_dict())


@contextmanager
def naming_failures(what: str) -> Iterator[None]:
    """Turn what the loaders underneath raise into one sentence that begins with the setting."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{what}: cannot be loaded: {error}") from error


def _new_small(texts: Iterable[str]) -> tuple[PreTrainedModel, ProcessorMixin]:
    tokenizer = train_tokenizer(texts)
    config = LPMusicCapsConfig(**SMALL_SIZES, vocab_size=len(tokenizer))
    model = LPMusicCapsForConditionalGeneration(config)
    return model, LPMusicCapsProcessor(LPMusicCapsFeatureExtractor(), tokenizer)


@torch.no_grad()
def standardise_convolutions(audio_encoder: nn.Module, mels: torch.Tensor) -> None:
    """Start the convolutions so that every channel has mean 0 and variance 1 over `mels` (clips, bands, frames).

    torch's own initialisation shrinks what differs between clips at each of the six layers, until a short run no
    longer finds it beside the fixed sinusoids. After Mishkin and Matas 2016 (arXiv 1511.06422), by channel.
    """
    hidden = mels
    for conv in (audio_encoder.conv1, *audio_encoder.conv_stack):
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        nn.init.zeros_(conv.bias)
        channels = conv(hidden)
        mean, spread = channels.mean(dim=(0, 2)), channels.std(dim=(0, 2))
        conv.weight /= spread[:, None, None]
        conv.bias -= mean / spread
        hidden = audio_encoder.activation(conv(hidden))


def train_tokenizer(texts: Iterable[str], vocabulary: int = SMALL_VOCABULARY) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer with BART's special tokens, learnt from `texts`."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=SPECIAL_TOKENS, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
        mask_token="<mask>", cls_token="<s>", sep_token="</s>", model_max_length=256,
    )  # fmt: skip
