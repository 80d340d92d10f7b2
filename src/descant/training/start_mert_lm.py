"""The MertLM model that a run starts from: joined from parts, a tiny one, or a saved one with words that it lacks."""

import json
import logging
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from tokenizers.models import BPE
from torch import nn
from transformers import (
    HubertConfig,
    HubertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    set_seed,
)

from descant.data.annotations import Row
from descant.data.collator import FeatureReader
from descant.data.corpus import load_corpus
from descant.evaluation.exact import canonical_answer, is_closed
from descant.hub_client import load_patiently
from descant.models.mert_lm import (
    MertLMConfig,
    MertLMFeatureExtractor,
    MertLMForConditionalGeneration,
    MertLMProcessor,
    join_parts,
)
from descant.models.mert_lm.loading_mert_lm import load_audio_encoder
from descant.models.mert_lm.modeling_mert_lm import MertLMBranch, MertLMProjector
from descant.models.mert_lm.parts_mert_lm import count_frames, load_feature_extractor
from descant.models.mert_lm.processing_mert_lm import AUDIO_TOKEN, SYSTEM_PROMPT, chat_ids
from descant.training.recipe import NEW_TEXT, MertLMOptions
from descant.training.saving import list_checkpoints
from descant.training.settings import TrainingSettings
from descant.training.start import SMALL_VOCABULARY, learn_tokens, naming_failures
from descant.training.training_data import TokenizedRows, TrainingData

log = logging.getLogger(__name__)

OPTIONS = MertLMOptions
RIDGE = 0.1
LEAST_OCCURRENCES = 5  # of a word in training texts that gets a token of its own
WARM_UP_CLIPS, WARM_UP_RATE = 30, 1e-3  # clips a step, and the largest learning rate

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TINY_AUDIO = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "conv_dim": (16, 16, 16), "conv_kernel": (10, 8, 8), "conv_stride": (8, 8, 8), "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "mask_time_prob": 0.0, "mask_feature_prob": 0.0,
}  # fmt: skip
TINY_TEXT = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip
# A language model that a dataset's own words fill, which trains whole: under half a million weights.
SMALL_TEXT = {
    "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 4, "max_position_embeddings": 512, "tie_word_embeddings": True, "initializer_range": 0.06,
}  # fmt: skip
# Its turns are the sound, the question and the answer: instructions that never change would teach it nothing.
PLAIN_TURNS = (
    "{% for message in messages if message['role'] != 'system' %}{{ message['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>' }}{% endif %}"
)


def build(options: MertLMOptions, texts: Iterable[str], demo: bool) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Join `--audio_encoder` and `--text_model`; a demo without them gets tiny random parts. See `ModelStart`.

    Raises:
        ValueError: only one of the two is given, or a part cannot be loaded.
    """
    names = (
        "layer_mix", "pooling", "pool_stride", "projector", "projector_size", "projector_dropout", "tokens_per_state",
    )  # fmt: skip
    joined: dict[str, Any] = {name: getattr(options, name) for name in names}
    if options.audio_encoder is None and options.text_model is None and demo:
        return new_tiny(texts, **joined)
    if options.audio_encoder is None or options.text_model is None:
        raise ValueError("pass --audio_encoder and --text_model, the two parts that are joined (a Hub id or folder)")
    if options.text_model == NEW_TEXT:
        with naming_failures(f"--audio_encoder {options.audio_encoder}"):
            return load_patiently(partial(new_text, options.audio_encoder, texts, **joined), options.audio_encoder)
    parts = (options.audio_encoder, options.text_model)
    with naming_failures(f"--audio_encoder {parts[0]}, --text_model {parts[1]}"):
        return load_patiently(partial(join_parts, *parts, **joined), *parts)


def prepare(
    model: PreTrainedModel, processor: ProcessorMixin, data: TrainingData, settings: TrainingSettings,
    options: MertLMOptions,
) -> None:  # fmt: skip
    """Start a new model's projector, or a saved one's branch, from the training clips, in place; see `ModelStart`."""
    if settings.init_from:
        return warm_up(model, data, settings, options)
    rows = rows_to_fit(data.rows.rows, settings.dataset, settings.audio_dir)
    fit_projector(model, TokenizedRows(rows, processor, settings.max_answer_tokens), data.features)


@torch.no_grad()
def fit_projector(model: PreTrainedModel, rows: TokenizedRows, features: FeatureReader) -> None:
    """Start a new model's projector from the features of the rows' clips, in place.

    Channels are standardised. A linear projector then begins as ridge regressions from a clip's states to embeddings
    that the language model can copy from long before it has learnt to read random ones. Token 0 of a state is fitted
    to the mean embedding of the distinctive words of all answers about the clip; each further token to those of one
    question type, plus a constant embedding of that type's question words, by which the language model finds it.
    """
    clips = sorted({row.clip_id for row in rows.rows})
    states = torch.from_numpy(np.stack([features.read(clip) for clip in clips]))
    projector, config = model.projector, model.config
    projector.standardise(states)
    if config.projector != "linear":
        return
    pooled = ((projector.mix(states) - projector.mean) / projector.spread).mean(dim=1)  # (clips, channels)
    by_clip = dict(zip(clips, pooled, strict=True))
    embedding, fitted = model.get_input_embeddings(), []
    topics = embed_questions(embedding, rows)
    for kinds in deal_types(rows.rows, config.tokens_per_state):
        about, words = embed_answers(embedding, rows, kinds)
        weight, bias = fit_ridge(torch.stack([by_clip[clip] for clip in about]), words, embedding.weight.std())
        fitted.append((weight, bias + sum(topics[kind] for kind in kinds) / max(len(kinds), 1)))
    weights, biases = zip(*fitted, strict=True)
    last, weight = projector.projection, torch.cat(weights)
    if config.projector_size:
        first, last = projector.projection
        weight, narrow = factorise(weight, pooled, config.projector_size)
        first.weight.copy_(narrow)
    last.weight.copy_(weight)
    last.bias.copy_(torch.cat(biases))


def factorise(weight: torch.Tensor, states: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Part a layer's weight (width, channels) into two, (width, rank) and (rank, channels).

    They give what the layer gives for states (clips, channels) but for the directions in which that varies least.
    """
    given = states @ weight.T
    directions = torch.linalg.eigh(given.T @ given).eigenvectors[:, -rank:]  # (width, rank); the last vary most
    return directions, directions.T @ weight


def rows_to_fit(rows: Sequence[Row], dataset: str | None, audio_dir: str | None) -> list[Row]:
    """Return the training rows; beside captions also the questions that the dataset has about the same clips."""
    if dataset is None or any(row.question for row in rows):
        return list(rows)
    try:
        questions = load_corpus(dataset, ["short"], audio_dir).rows("short", "train")
    except ValueError:  # captions are all that there is
        return list(rows)
    clips = {row.clip_id for row in rows}
    return [*rows, *(row for row in questions if row.clip_id in clips)]


def deal_types(rows: Sequence[Row], tokens: int) -> list[set[str]]:
    """Deal the question types to the tokens of a state: the first gets none, which means all answers; the others one
    each, or an even share where there are fewer tokens than types; tokens that are left get none.
    """
    kinds = sorted({row.question_type for row in rows if row.question_type})
    return [set(), *(set(kinds[token :: tokens - 1]) for token in range(tokens - 1))]


def embed_answers(embedding: nn.Embedding, rows: TokenizedRows, kinds: set[str]) -> tuple[list[str], torch.Tensor]:
    """Return clip ids, and an embedding (clips, width) of each clip's answers to some types of question.

    kinds: the types; none stands for all.
    """
    tokens: dict[str, list[int]] = {}
    for row, labels in zip(rows.rows, rows.labels, strict=True):
        if not kinds or row.question_type in kinds:
            tokens.setdefault(row.clip_id, []).extend(labels[:-1].tolist())
    return list(tokens), embed_distinctive(embedding, list(tokens.values()))


def embed_questions(embedding: nn.Embedding, rows: TokenizedRows) -> dict[str, torch.Tensor]:
    """Embed the words (width,) in which the questions of each type differ from others, at a word's mean norm."""
    tokens: dict[str, list[int]] = {}
    for row in rows.rows:
        prompt = rows.prompts[row.question]
        if row.question_type and prompt is not None:
            words = prompt[prompt < embedding.num_embeddings]  # without the audio's placeholders
            tokens.setdefault(row.question_type, []).extend(words.tolist())
    if not tokens:
        return {}
    directions = nn.functional.normalize(embed_distinctive(embedding, list(tokens.values())), dim=1)
    return dict(zip(tokens, embedding.weight.norm(dim=1).mean() * directions, strict=True))


def embed_distinctive(embedding: nn.Embedding, texts: list[list[int]]) -> torch.Tensor:
    """Return each text's mean embedding (texts, width), weighted by inverse document frequency among the texts.

    texts: token ids.
    """
    having = torch.zeros(embedding.num_embeddings)
    for text in texts:
        having[list(set(text))] += 1
    rarity = torch.log(len(texts) / having.clamp(min=1))
    sums = torch.stack([rarity[text] @ embedding.weight[text] for text in texts])
    return sums / torch.stack([rarity[text].sum() for text in texts])[:, None].clamp(min=1e-6)


def fit_ridge(states: torch.Tensor, words: torch.Tensor, spread: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit a layer from states (clips, channels) to words (clips, width) by ridge regression.

    spread: the standard deviation to which its results are scaled. Returns weight (width, channels) and bias (width,).
    """
    common = words.mean(dim=0)
    gram = states.T @ states + RIDGE * len(states) * torch.eye(states.shape[1])
    weights = torch.linalg.solve(gram, states.T @ (words - common))  # (channels, width)
    return spread / (states @ weights).std().clamp(min=1e-6) * weights.T, common


def adapt(
    model: PreTrainedModel, processor: ProcessorMixin, texts: Iterable[str], options: MertLMOptions, seed: int
) -> None:
    """Make a saved model ready for a dataset of other words, in place; see `MertLMOptions`. seed: of a new branch."""
    if not isinstance(options, MertLMOptions):  # a model of another kind
        return
    if options.new_words:
        add_words(model, processor, texts, options.new_words)
    if options.projector_branch and not model.config.projector_branch:
        set_seed(seed)
        add_branch(model, options.projector_branch, options.branch_dropout)


def add_branch(model: PreTrainedModel, width: int, dropout: float) -> None:
    """Let a hidden layer learn in place of a projector that has learnt, which stays as it is: of a few hundred clips
    it would learn every one by heart.
    """
    model.config.projector_branch, model.config.branch_dropout = width, dropout
    branch = cast(MertLMBranch, MertLMProjector(model.config).branch)
    nn.init.zeros_(branch.output.weight)  # it adds nothing until it has learnt
    model.projector.requires_grad_(False)
    model.config.projector_dropout = model.projector.dropout.p = 0.0  # it no longer learns
    model.projector.branch = branch


def warm_up(model: PreTrainedModel, data: TrainingData, settings: TrainingSettings, options: MertLMOptions) -> None:
    """Give a new branch a start from the training clips, in place; a run that goes on has had it."""
    if not isinstance(options, MertLMOptions) or not (options.branch_warm_up_epochs and model.config.projector_branch):
        return
    if settings.resume == "no" or not list_checkpoints(settings.output_dir):
        rows, epochs = data.rows.rows, options.branch_warm_up_epochs
        warm_up_branch(model, rows, data.features, epochs=epochs, seed=settings.seed)
    model.projector.branch.input.requires_grad_(False)  # or it would learn every clip by heart


def warm_up_branch(
    model: PreTrainedModel, rows: Sequence[Row], features: FeatureReader, *, epochs: int, seed: int
) -> float:
    """Train the branch's hidden layer, in place, to tell what the closed questions about each clip are answered.

    A linear head reads all answers off it, and is discarded after: the language model learns far sooner from channels
    in which they lie open. Returns the last step's loss; 0.0 where no closed question is asked.
    """
    clips, targets = closed_targets(rows)
    if not clips:
        return 0.0
    torch.manual_seed(seed)
    states = torch.from_numpy(np.stack([features.read(clip) for clip in clips]))
    with torch.no_grad():
        standard = model.projector.standard(states).mean(dim=1)  # (clips, channels)
    branch, widths = model.projector.branch.train(), [one.shape[1] for one in targets]
    heads = nn.Linear(branch.input.out_features, sum(widths))
    trained = [*branch.input.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=WARM_UP_RATE, weight_decay=0.05)
    steps = epochs * -(-len(clips) // WARM_UP_CLIPS)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, WARM_UP_RATE, total_steps=steps)
    for _ in range(epochs):
        for chosen in torch.randperm(len(clips)).split(WARM_UP_CLIPS):
            scores = heads(branch.hidden(standard[chosen])).split(widths, dim=1)
            losses = [answer_loss(one, named[chosen]) for one, named in zip(scores, targets, strict=True)]
            loss = torch.stack(losses).sum()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    log.info("warm-up: %.2f nats a clip over %d question types", loss.item(), len(targets))
    return loss.item()


def closed_targets(rows: Sequence[Row]) -> tuple[list[str], list[torch.Tensor]]:
    """Return clip ids, and for each closed question type which terms each clip's answers name (clips, terms).

    1 for a term that is named, 0 for another, NaN where a clip has no such question.
    """
    closed = [row for row in rows if is_closed(row.question_type)]
    clips = sorted({row.clip_id for row in closed})
    named: dict[str, dict[str, set[Hashable]]] = {}
    for row in closed:
        answer = canonical_answer(row.answer, row.question_type)
        terms = answer if isinstance(answer, frozenset) else {answer}
        named.setdefault(row.question_type or "", {}).setdefault(row.clip_id, set()).update(terms)
    targets = []
    for answers in named.values():
        every = sorted(set().union(*answers.values()), key=str)
        unknown = [math.nan] * len(every)
        known = {clip: [float(term in answer) for term in every] for clip, answer in answers.items()}
        targets.append(torch.tensor([known.get(clip, unknown) for clip in clips]))
    return clips, targets


def answer_loss(scores: torch.Tensor, named: torch.Tensor) -> torch.Tensor:
    """Return the mean loss of one question type, of one term a clip or of several, where it is known."""
    known = ~named.isnan().any(dim=1)
    scores, named = scores[known], named[known]
    if not len(named):
        return scores.sum()
    if bool((named.sum(dim=1) == 1).all()):
        return nn.functional.cross_entropy(scores, named.argmax(dim=1), label_smoothing=0.1)
    return nn.functional.binary_cross_entropy_with_logits(scores, named, reduction="sum") / (2 * len(named))


@torch.no_grad()
def add_words(model: PreTrainedModel, processor: ProcessorMixin, texts: Iterable[str], most: int) -> list[str]:
    """Give words of `texts` that the tokenizer cuts into pieces a token each, in place; return them.

    most: how many words at most, the commonest first; those that occur fewer than five times stay in pieces. A new
    embedding is the mean of those of the word's pieces. Other texts are cut as before.

    Raises:
        ValueError: the tokenizer is no byte-level BPE, or its own words are not all that the model has embeddings of.
    """
    tokenizer, backend = processor.tokenizer, processor.tokenizer.backend_tokenizer
    if not isinstance(backend.model, BPE):
        raise ValueError(f"--new_words: needs a byte-level BPE tokenizer, not {type(backend.model).__name__}")
    cut, known = json.loads(backend.to_str())["model"], model.get_input_embeddings().weight.clone()
    if len(cut["vocab"]) != len(known):  # tokens behind them would be numbered anew, and lose their embeddings
        raise ValueError(
            f"--new_words: the tokenizer has {len(cut['vocab'])} words and the model embeddings of {len(known)}, as "
            "where special tokens are no words: leave --new_words out"
        )
    counts = Counter(word for text in texts for word, _ in backend.pre_tokenizer.pre_tokenize_str(text))
    common = [word for word, count in counts.most_common() if count >= LEAST_OCCURRENCES and word not in cut["vocab"]]
    words = common[:most]
    pieces = [[token.id for token in backend.model.tokenize(word)] for word in words]
    processor.tokenizer = with_words(tokenizer, words)
    model.config.audio_token_id = processor.tokenizer.convert_tokens_to_ids(AUDIO_TOKEN)
    embeddings = model.resize_token_embeddings(len(known) + len(words), mean_resizing=False)
    for index, parts in enumerate(pieces, start=len(known)):
        embeddings.weight[index] = known[parts].mean(dim=0)
    return words


def with_words(tokenizer: PreTrainedTokenizerFast, words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer with more words, as it will be loaded: the audio's placeholder comes after all words then."""
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        path = Path(folder) / "tokenizer.json"
        saved = json.loads(path.read_text(encoding="utf-8"))
        vocabulary = saved["model"]["vocab"]
        vocabulary |= {word: index for index, word in enumerate(words, start=len(vocabulary))}
        saved["model"]["ignore_merges"] = True  # a word that has a token of its own is not cut
        for added in saved["added_tokens"]:
            if added["content"] == AUDIO_TOKEN:
                added["id"] = len(vocabulary)
        path.write_text(json.dumps(saved), encoding="utf-8")
        return PreTrainedTokenizerFast.from_pretrained(folder)


def new_text(audio_encoder: str, texts: Iterable[str], **joined: Any) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Join an audio encoder to a small language model with random weights, and a tokenizer learnt from `texts`."""
    extractor = load_feature_extractor(audio_encoder, 10.0)
    tokenizer = train_chat_tokenizer(texts, PLAIN_TURNS)
    named = {"audio_model_id": audio_encoder, "text_frozen": False, **joined}
    return join_new(load_audio_encoder(audio_encoder), extractor, tokenizer, SMALL_TEXT, named)


def new_tiny(texts: Iterable[str], window_s: float = 10.0, **joined: Any) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Build a model of kilobytes from random parts, and its processor with a tokenizer learnt from `texts`.

    joined: fields of MertLMConfig.
    """
    extractor = MertLMFeatureExtractor(window_s=window_s)
    return join_new(HubertModel(HubertConfig(**TINY_AUDIO)), extractor, train_chat_tokenizer(texts), TINY_TEXT, joined)


def join_new(
    encoder: PreTrainedModel, extractor: Any, tokenizer: PreTrainedTokenizerFast, sizes: Mapping[str, Any],
    joined: Mapping[str, Any],
) -> tuple[PreTrainedModel, ProcessorMixin]:  # fmt: skip
    """Join an encoder to a language model of these sizes with random weights. joined: fields of MertLMConfig."""
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    language_model = LlamaForCausalLM(LlamaConfig(**sizes, **ends, vocab_size=len(tokenizer) - 1))
    config = MertLMConfig(
        audio_config=encoder.config, text_config=language_model.config, audio_frames=count_frames(encoder, extractor),
        audio_token_id=tokenizer.convert_tokens_to_ids(AUDIO_TOKEN), eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=chat_ids(tokenizer, SYSTEM_PROMPT, "?")[-1], pad_token_id=tokenizer.pad_token_id,
        **joined,
    )  # fmt: skip
    model = MertLMForConditionalGeneration(config, encoder, language_model)
    return model, MertLMProcessor(extractor, tokenizer, config.audio_positions)


def train_chat_tokenizer(texts: Iterable[str], template: str = CHATML) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer with a template's turns, learnt from `texts`; the audio's placeholder is last.
    """
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=learn_tokens(texts, SMALL_VOCABULARY, ["<|im_start|>", "<|im_end|>"]),
        eos_token="<|im_end|>", pad_token="<|im_end|>", model_max_length=512, padding_side="right",
        additional_special_tokens=[AUDIO_TOKEN],
    )  # fmt: skip
    wrapped.chat_template = template
    return wrapped
