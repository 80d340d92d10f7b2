"""The model a run starts from: a saved one, one with an adapter, or a new LPMusicCaps model of base or small size.

The audio encoder of a small one is first trained to classify the closed answers, then the whole model to word them.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from torch.nn import functional
from tqdm.auto import tqdm
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
from transformers.utils import ADAPTER_CONFIG_NAME

from descant.data.annotations import Row
from descant.data.collator import FeatureReader
from descant.evaluation.exact import canonical_answer, is_closed
from descant.hub_client import fetch_model, find_file, load_patiently, patiently
from descant.models.lp_music_caps import (
    LPMusicCapsConfig,
    LPMusicCapsFeatureExtractor,
    LPMusicCapsForConditionalGeneration,
    LPMusicCapsProcessor,
)
from descant.models.lp_music_caps.modeling_lp_music_caps import LPMusicCapsAudioEncoder
from descant.training.recipe import LPMusicCapsOptions, ModelStart
from descant.training.saving import list_checkpoints
from descant.training.settings import TrainingSettings
from descant.training.training_data import TokenizedRows, TrainingData, some_features

log = logging.getLogger(__name__)

OPTIONS = LPMusicCapsOptions
Model: TypeAlias = PreTrainedModel | PeftModel

BASE_SIZES = {
    "d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "encoder_attention_heads": 12,
    "decoder_attention_heads": 12, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072, "vocab_size": 50265,
}  # fmt: skip
SMALL_SIZES = {
    "d_model": 128, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 256, "decoder_ffn_dim": 256, "max_position_embeddings": 256,
    "dropout": 0.0, "init_std": 0.08,
}  # fmt: skip
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # in the order of BART's ids 0 to 3
SMALL_VOCABULARY = 1200
PICKLES = (".pth", ".pt", ".bin")

# What augmentation does at most to the log-mel of a training clip.
MAX_GAIN_DB = 6.0
MAX_TILT_DB = 3.0
MAX_BAND_SHIFT = 3
MASKED_BANDS = 6
MASKED_FRAMES = 30

# The warm-up of a new audio encoder: clips a step, and the class of a clip that was not asked about.
BATCH_CLIPS = 16
UNKNOWN = -100


# Any model


def start_model(
    init_from: str | None, start: ModelStart, options: Any, texts: Iterable[str], *, seed: int, demo: bool
) -> tuple[Model, ProcessorMixin]:
    """Return the model and processor to train, in float32.

    Args:
        init_from: a Hub id or folder to load; None lets `start` build a new model from a seeded state.
        options: those of the kind of model that `start` builds.
        texts: the training split's questions and answers, from which a small model's tokenizer is made.
        demo: whether a small model will do where the options name none.

    Raises:
        ValueError: `init_from` is a pickle, or something cannot be loaded.
    """
    if init_from:
        return load_start(init_from)
    set_seed(seed)
    return start.build(options, texts, demo)


def load_start(source: str) -> tuple[Model, ProcessorMixin]:
    """Load a model folder or Hub id; an adapter is loaded onto its base, and trains on.

    Raises:
        ValueError: it is a pickle, cannot be loaded, or lacks weights.
    """
    if source.endswith(PICKLES):
        raise ValueError(
            f"--init_from {source}: a pickle is not loaded; run `descant convert {source} --bart facebook/bart-base "
            "--output DIR` and pass --init_from DIR"
        )
    with naming_failures(f"--init_from {source}"):
        fetch_model(source)
        base = find_adapter_base(source)
        return load_patiently(partial(_load, source), *filter(None, [source, base]))


def _load(source: str) -> tuple[Model, ProcessorMixin]:
    model, found = AutoModelForMultimodalLM.from_pretrained(
        source, dtype=torch.float32, use_safetensors=True, output_loading_info=True
    )
    if found["missing_keys"]:  # transformers fills them with random numbers
        raise ValueError(f"weights are missing, {min(found['missing_keys'])} among them")
    model.decision_config = None  # it was fitted for the weights from which training leads away
    adapted = model.peft_model
    if adapted is not None:  # loaded to answer: its matrices, and the modules that it holds whole, are made to train
        adapted.active_peft_config.inference_mode = False
        adapted.set_adapter(adapted.active_adapter)
    return adapted or model, AutoProcessor.from_pretrained(source)


def is_adapter(source: str) -> bool:
    """Return whether a folder or Hub id holds an adapter, which is loaded onto another model."""
    return _find_adapter_config(source) is not None


def find_adapter_base(source: str) -> str | None:
    """Return the model that an adapter, a folder or Hub id, names as its base; None where it is none or names none."""
    config = _find_adapter_config(source)
    return PeftConfig.from_pretrained(str(config.parent)).base_model_name_or_path or None if config else None


def _find_adapter_config(source: str) -> Path | None:
    if Path(source).exists():
        config = Path(source) / ADAPTER_CONFIG_NAME
        return config if config.is_file() else None
    return find_file(source, ADAPTER_CONFIG_NAME)


@contextmanager
def naming_failures(what: str) -> Iterator[None]:
    """Turn what the loaders underneath raise into one sentence that begins with the setting."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"{what}: cannot be loaded: {error}") from error


def add_lora(model: PreTrainedModel, rank: int, targets: str | None = None) -> PeftModel:
    """Wrap `model` so that only low-rank matrices and the modules it wants whole are trained (Hu et al. 2021).

    targets: a regular expression over module names, in place of the model's own.

    Raises:
        ValueError: the model has no `lora_target_modules`.
    """
    targets = targets or type(model).__dict__.get("lora_target_modules")
    if targets is None:
        raise ValueError(f"--lora: {type(model).__name__} names no lora_target_modules")
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=targets, modules_to_save=type(model).lora_modules_to_save,
        base_model_name_or_path=model.name_or_path or None,
    )  # fmt: skip
    return get_peft_model(model, config)


def go_on_with_lora(model: PeftModel, init_from: str, rank: int | None, targets: str | None) -> PeftModel:
    """Return the adapter that `--init_from` gives, which trains on as it is.

    rank, targets: what the command asks for, None where it does not.

    Raises:
        ValueError: it asks for another rank or other modules than the adapter has.
    """
    config = model.active_peft_config
    for option, asked, has in (("rank", rank, config.r), ("targets", targets, config.target_modules)):
        if asked is not None and asked != has:
            raise ValueError(
                f"--lora_{option} {asked}: the adapter of --init_from {init_from} has {has} and trains on as it is; "
                f"leave --lora_{option} out"
            )
    return model


def describe_model(model: Any) -> str:
    """Return a model's class and how much of it trains."""
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    adapter = " with a LoRA adapter" if isinstance(model, PeftModel) else ""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    trained, total = sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)
    return f"{type(inner).__name__}{adapter}, {trained:,} of {total:,} parameters train"


# A new LPMusicCaps model: what `ModelStart` asks for


def build(options: LPMusicCapsOptions, texts: Iterable[str], demo: bool) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Return a new LPMusicCaps model with random weights, and its processor; see `ModelStart`."""
    log.warning("no --init_from: training starts from random weights (the reference starts from a captioner)")
    if options.model_size == "small":
        return _build_small(texts)
    return _build_base(options.tokenizer, options.text_init_from)


def _build_base(tokenizer_source: str, text_init_from: str | None) -> tuple[PreTrainedModel, ProcessorMixin]:
    with naming_failures(f"--tokenizer {tokenizer_source}"):
        tokenizer = patiently(partial(AutoTokenizer.from_pretrained, tokenizer_source), tokenizer_source)
    model = LPMusicCapsForConditionalGeneration(LPMusicCapsConfig(**BASE_SIZES))
    if text_init_from:
        load_text_side(model, text_init_from)
    return model, LPMusicCapsProcessor(LPMusicCapsFeatureExtractor(), tokenizer)


def _build_small(texts: Iterable[str]) -> tuple[PreTrainedModel, ProcessorMixin]:
    tokenizer = train_tokenizer(texts)
    config = LPMusicCapsConfig(**SMALL_SIZES, vocab_size=len(tokenizer))
    model = LPMusicCapsForConditionalGeneration(config)
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


@torch.no_grad()
def standardise_convolutions(audio_encoder: LPMusicCapsAudioEncoder, mels: torch.Tensor) -> None:
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


def adapt(
    model: PreTrainedModel, processor: ProcessorMixin, texts: Iterable[str], options: LPMusicCapsOptions, seed: int
) -> None:
    """Leave a saved model as it is: its tokenizer has words of every kind. See `ModelStart`."""


def prepare(
    model: PreTrainedModel, processor: ProcessorMixin, data: TrainingData, settings: TrainingSettings,
    options: LPMusicCapsOptions,
) -> None:  # fmt: skip
    """Give a new small model's audio encoder a start; a run that goes on from a checkpoint has had it.

    Raises ValueError, which names the clip, for a question or answer that the model has no room for.
    """
    if model.config.model_type == OPTIONS.kind:
        validation = [row for splits in data.configs.values() for row in splits.get("validation", [])]
        require_room(model, data.rows)
        require_room(model, TokenizedRows(validation, processor, settings.max_answer_tokens))
    goes_on = settings.resume != "no" and list_checkpoints(settings.output_dir)
    if settings.init_from or options.model_size != "small" or goes_on:
        return
    standardise_convolutions(model.audio_encoder, some_features(data))
    if options.audio_warm_up_epochs:
        warm_up_audio(
            model, data.rows.rows, data.features, epochs=options.audio_warm_up_epochs,
            learning_rate=settings.learning_rate, first_conv_lr_scale=options.first_conv_lr_scale, seed=settings.seed,
        )  # fmt: skip


def require_room(model: Model, rows: TokenizedRows) -> None:
    """Raise ValueError for the first row whose question or answer has more tokens than the model has positions."""
    positions = model.config.max_position_embeddings
    left = positions - model.config.audio_positions
    for row, labels in zip(rows.rows, rows.labels, strict=True):
        prompt = rows.prompts[row.question]
        for what, size, room in (("question", 0 if prompt is None else len(prompt), left),
                                 ("answer", len(labels), positions)):  # fmt: skip
            if size > room:
                raise ValueError(
                    f"{row.clip_id}: its {what} takes {size} tokens, and the model has room for {room}: shorten it, "
                    f"or leave the row out{' (or lower --max_answer_tokens)' if what == 'answer' else ''}"
                )


def augment_mel(mel: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Roll in time, shift by a few bands, change level and tilt, mask one band and one stretch.

    Args:
        mel: (bands, frames) in dB.
        random: the only source of randomness.

    Masks are those of SpecAugment (Park et al. 2019, arXiv 1904.08779), filled with the clip's mean.
    """
    bands, frames = mel.shape
    mel = np.roll(mel, int(random.integers(frames)), axis=1)
    mel = _shift_bands(mel, int(random.integers(-MAX_BAND_SHIFT, MAX_BAND_SHIFT + 1)))
    tilt = random.uniform(-MAX_TILT_DB, MAX_TILT_DB) * np.linspace(-0.5, 0.5, bands, dtype=np.float32)
    mel = mel + tilt[:, None] + np.float32(random.uniform(-MAX_GAIN_DB, MAX_GAIN_DB))
    mean = mel.mean(dtype=np.float32)
    first = int(random.integers(bands - MASKED_BANDS))
    mel[first : first + int(random.integers(MASKED_BANDS + 1))] = mean
    first = int(random.integers(frames - MASKED_FRAMES))
    mel[:, first : first + int(random.integers(MASKED_FRAMES + 1))] = mean
    return mel.astype(np.float32, copy=False)


def _shift_bands(mel: np.ndarray, shift: int) -> np.ndarray:
    """Move the spectrum up by `shift` bands, repeating the edge band."""
    source = np.clip(np.arange(len(mel)) - shift, 0, len(mel) - 1)
    return mel[source]


def warm_up_audio(
    model: PreTrainedModel, rows: Sequence[Row], features: FeatureReader, *,
    epochs: int, learning_rate: float, first_conv_lr_scale: float, seed: int,
) -> float:  # fmt: skip
    """Train the audio encoder, in place, to classify each clip's answers; return the last epoch's loss in nats a clip.

    One linear head a question type reads the mean over time of `model.get_audio_features`, and is discarded after.
    A short run from random weights comes to use the audio several times faster so than through the decoder alone,
    which has to learn the wording first. Rows without a closed question are left out; returns 0.0 where there is none.
    """
    clips, targets = class_targets(rows)
    if not clips:
        return 0.0
    torch.manual_seed(seed)
    heads = nn.ModuleList(nn.Linear(model.config.d_model, int(column.max()) + 1) for column in targets.T)
    groups: list[dict[str, Any]] = [
        {"params": [*model.audio_encoder.conv1.parameters()], "lr": first_conv_lr_scale * learning_rate},
        {"params": [*model.audio_encoder.conv_stack.parameters(), *heads.parameters()]},
    ]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    steps = epochs * -(-len(clips) // BATCH_CLIPS)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    random, loss = np.random.default_rng([seed, 2]), 0.0
    for _ in tqdm(range(epochs), desc="audio warm-up", unit="epoch"):
        losses = []
        for chosen in _batches(len(clips), random):
            mels = np.stack([augment_mel(features.read(clips[index]), random) for index in chosen])
            pooled = model.get_audio_features(torch.from_numpy(mels)).mean(dim=1)  # (clips, d_model)
            losses.append(_loss(heads, pooled, targets[chosen]))
            losses[-1].backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        loss = float(torch.stack(losses).detach().mean())
    log.info("audio warm-up: %.2f nats a clip over %d question types", loss, len(heads))
    return loss


def class_targets(rows: Sequence[Row]) -> tuple[list[str], torch.Tensor]:
    """Return clip ids, and the class of each clip's answer to each closed question type (clips, types); -100: none."""
    closed = [row for row in rows if is_closed(row.question_type)]
    clips = sorted({row.clip_id for row in closed})
    kinds = sorted({row.question_type for row in closed if row.question_type})
    index = {clip_id: number for number, clip_id in enumerate(clips)}
    targets = torch.full((len(clips), len(kinds)), UNKNOWN)
    for number, kind in enumerate(kinds):
        classes: dict[object, int] = {}
        for row in closed:
            if row.question_type == kind:
                answer = canonical_answer(row.answer, kind)
                targets[index[row.clip_id], number] = classes.setdefault(answer, len(classes))
    return clips, targets


def _batches(clips: int, random: np.random.Generator) -> list[np.ndarray]:
    order = random.permutation(clips)
    return [order[start : start + BATCH_CLIPS] for start in range(0, clips, BATCH_CLIPS)]


def _loss(heads: nn.ModuleList, pooled: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    losses = [
        functional.cross_entropy(head(pooled), column, ignore_index=UNKNOWN, label_smoothing=0.1)
        for head, column in zip(heads, targets.T, strict=True)
    ]
    return torch.stack(losses).sum()


def learn_tokens(
    texts: Iterable[str], vocabulary: int, special_tokens: Sequence[str], unk_token: str | None = None
) -> Tokenizer:
    """Return a byte-level BPE tokenizer of at most `vocabulary` tokens, learnt from `texts`."""
    tokenizer = Tokenizer(models.BPE(unk_token=unk_token))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(special_tokens), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocabulary: int = SMALL_VOCABULARY) -> PreTrainedTokenizerBase:
    """Return a byte-level BPE tokenizer with BART's special tokens, learnt from `texts`."""
    tokenizer = learn_tokens(texts, vocabulary, SPECIAL_TOKENS, unk_token="<unk>")
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
        mask_token="<mask>", cls_token="<s>", sep_token="</s>", model_max_length=256,
    )  # fmt: skip
