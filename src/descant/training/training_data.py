"""What a run reads, and in which order: tokenised rows, in one seeded stream over all stages and epochs."""

import hashlib
import itertools
import logging
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler
from transformers import ProcessorMixin, TrainingArguments

from descant.data.annotations import Row
from descant.data.collator import IGNORED
from descant.data.corpus import Corpus, SplitRows
from descant.data.extraction import keep_heard
from descant.data.features import FeatureStore
from descant.training.recipe import Stage
from descant.training.settings import SettingsT, TrainingSettings, with_changes

log = logging.getLogger(__name__)
Kind = TypeVar("Kind", bound=Hashable)

# Tokens by which rows that stay together may differ. At bart-base size, padding an answer by 23 tokens costs as much
# as encoding the audio of one clip.
LIKE_LENGTH = 12


class Planned(NamedTuple):
    """A row in its epoch, with the number of its block (rows of one clip that stay together) and longest row there."""

    longest: int
    block: int
    row: int
    epoch: int


@dataclass(frozen=True)
class StagePlan:
    """The rows of one stage, as indices into the training rows, and for how many epochs it lasts.

    An epoch is every row once, or `draws` tag-balanced draws with replacement: a tag, each as likely as any other,
    then one of its rows. `tagged` holds the rows of each tag.
    """

    name: str
    rows: np.ndarray
    epochs: int
    draws: int = 0
    tagged: tuple[np.ndarray, ...] = ()

    @property
    def rows_per_epoch(self) -> int:
        """The rows, or draws, of one epoch."""
        return self.draws or len(self.rows)

    def epoch_rows(self, random: np.random.Generator) -> np.ndarray:
        """Return the row indices of one epoch in random order."""
        if not self.draws:
            return random.permutation(self.rows)
        tags = random.integers(len(self.tagged), size=self.draws)
        return np.array([random.choice(self.tagged[tag]) for tag in tags])


def plan_stages(
    stages: Sequence[Stage],
    rows: dict[str, np.ndarray],
    num_epochs: float,
    draws: int = 0,
    tags: Sequence[Sequence[str]] = (),
) -> list[StagePlan]:
    """Scale the stages' epochs to `num_epochs` in all; see `share_epochs`.

    Args:
        rows: the row indices of each configuration.
        draws: tag-balanced draws an epoch (0: every row once).
        tags: the tags of every row, where `draws` asks for them.

    Raises:
        ValueError: a stage without rows, or one to be drawn by tags without any, named; fewer epochs than stages.
    """
    for stage in stages:
        if len(rows[stage.config]) == 0:
            raise ValueError(f"the training split has no rows for the stage {stage.config!r}")
    return [
        StagePlan(stage.config, rows[stage.config], epochs, draws, _rows_by_tag(stage, rows, tags, draws))
        for stage, epochs in zip(stages, share_epochs(stages, num_epochs), strict=True)
    ]


def share_epochs(stages: Sequence[Stage], num_epochs: float) -> list[int]:
    """Return whole epochs of each stage, `num_epochs` (rounded) in all, in proportion, and at least one each.

    Raises:
        ValueError: fewer epochs than stages.
    """
    total, count = round(num_epochs), len(stages)
    if total < count:
        names = ", then ".join(stage.config for stage in stages)
        raise ValueError(f"--num_train_epochs {num_epochs:g} is too few to train {names}: give at least {count}")
    shares = np.cumsum([stage.epochs for stage in stages]) * num_epochs / sum(stage.epochs for stage in stages)
    ends = [0]
    for number, share in enumerate(shares, start=1):
        ends.append(min(max(round(float(share)), ends[-1] + 1), total - count + number))
    return [end - start for start, end in itertools.pairwise(ends)]


def _rows_by_tag(
    stage: Stage, rows: dict[str, np.ndarray], tags: Sequence[Sequence[str]], draws: int
) -> tuple[np.ndarray, ...]:
    if not draws:
        return ()
    found: dict[str, list[int]] = {}
    for row in rows[stage.config]:
        for tag in tags[row]:
            found.setdefault(tag, []).append(int(row))
    if not found:
        raise ValueError(f"no row of {stage.config!r} has tags (aspect_list), which tag-balanced draws need")
    return tuple(np.array(found[tag]) for tag in sorted(found))


class CurriculumSampler(Sampler[tuple[int, int]]):
    """Yields `(row, epoch)` over all stages, every row once an epoch, the same for the same seed.

    The whole run is one pass, so that one schedule spans stages of different sizes and a resumed run skips the rows
    that it has seen. Within stretches of up to 50 batches, rows of like length share a batch. With `rows_per_clip`
    above 1, up to as many rows of one clip stay together where they are of like length too: its audio is encoded once
    for them.

    multiple_of: the rows of all processes in one batch. The last batch is filled up to it with the last row, each time
    with the epoch -1 - epoch: such a row does not count (see `TokenizedRows`). Of several processes accelerate would
    otherwise fill it with the run's first rows, and train on them again.
    """

    def __init__(
        self, stages: Sequence[StagePlan], clips: np.ndarray, lengths: np.ndarray, *, batch_size: int,
        rows_per_clip: int = 1, seed: int = 42, multiple_of: int = 1,
    ) -> None:  # fmt: skip
        self.stages, self.clips, self.lengths = list(stages), np.asarray(clips), np.asarray(lengths)
        self.batch_size, self.rows_per_clip, self.seed = batch_size, rows_per_clip, seed
        self.multiple_of = multiple_of
        smallest = min(stage.rows_per_epoch for stage in self.stages)
        self.stretch = batch_size * int(np.clip(smallest // (batch_size * 4), 1, 50))

    def __len__(self) -> int:
        return -(-self.total_rows // self.multiple_of) * self.multiple_of

    @property
    def total_rows(self) -> int:
        """The rows of all epochs, without those that fill up the last batch."""
        return sum(stage.rows_per_epoch * stage.epochs for stage in self.stages)

    @property
    def epochs(self) -> int:
        """The epochs of all stages."""
        return sum(stage.epochs for stage in self.stages)

    def stage_at(self, row_count: int) -> tuple[str, float]:
        """Return the stage's name and the epoch (fractional) reached once `row_count` rows have been seen."""
        row_count, epoch = min(row_count, self.total_rows), 0.0
        for stage in self.stages:
            rows = stage.rows_per_epoch * stage.epochs
            if row_count < rows or stage is self.stages[-1]:
                return stage.name, epoch + row_count / stage.rows_per_epoch
            row_count, epoch = row_count - rows, epoch + stage.epochs
        raise AssertionError("a curriculum has at least one stage")

    def __iter__(self) -> Iterator[tuple[int, int]]:
        pending: list[Planned] = []
        for number, (block, epoch) in enumerate(self._blocks()):
            longest = int(self.lengths[block].max())
            pending += [Planned(longest, number, int(row), epoch) for row in block]
            if len(pending) >= self.stretch:
                whole = len(pending) // self.batch_size * self.batch_size
                yield from self._grouped(pending[:whole], number)
                pending = pending[whole:]
        whole = len(pending) // self.batch_size * self.batch_size
        rest = [*self._grouped(pending[:whole], 0), *((planned.row, planned.epoch) for planned in pending[whole:])]
        yield from rest
        yield from [(row, -1 - epoch) for row, epoch in rest[-1:]] * (len(self) - self.total_rows)

    def _blocks(self) -> Iterator[tuple[np.ndarray, int]]:
        """Yield rows of one clip, at most `rows_per_clip` at a time, in the seeded order of each epoch."""
        epoch = 0
        for stage in self.stages:
            for _ in range(stage.epochs):
                for block in self._epoch_blocks(stage, np.random.default_rng([self.seed, epoch])):
                    yield block, epoch
                epoch += 1

    def _epoch_blocks(self, stage: StagePlan, random: np.random.Generator) -> list[np.ndarray]:
        rows = stage.epoch_rows(random)
        if self.rows_per_clip == 1:
            return list(rows[:, None])
        rows = rows[np.lexsort((self.lengths[rows], self.clips[rows]))]
        blocks = np.split(rows, self._block_starts(rows))
        return [blocks[index] for index in random.permutation(len(blocks))]

    def _block_starts(self, rows: np.ndarray) -> list[int]:
        """Return the indices in `rows`, sorted by clip and length, at which blocks after the first start."""
        starts, first = [], 0
        for index in range(1, len(rows)):
            same_clip = self.clips[rows[index]] == self.clips[rows[first]]
            alike = self.lengths[rows[index]] - self.lengths[rows[first]] <= LIKE_LENGTH
            if not (same_clip and alike and index - first < self.rows_per_clip):
                starts.append(index)
                first = index
        return starts

    def _grouped(self, stretch: list[Planned], number: int) -> Iterator[tuple[int, int]]:
        """Yield one stretch of whole batches: blocks sorted by their longest row, batches shuffled."""
        ordered = sorted(stretch, key=lambda planned: (planned.longest, planned.block))
        starts = np.arange(0, len(ordered), self.batch_size)
        for start in np.random.default_rng([self.seed, 1, number]).permutation(starts):
            yield from ((planned.row, planned.epoch) for planned in ordered[start : start + self.batch_size])


def rows_per_step(args: TrainingArguments) -> int:
    """Return the effective batch: rows of all processes and accumulated batches in one optimizer step."""
    return args.per_device_train_batch_size * max(args.world_size, 1) * args.gradient_accumulation_steps


def plan_steps(settings: SettingsT, curriculum: CurriculumSampler, validated: bool) -> SettingsT:
    """Return the settings with epochs turned into steps: the run's length, and how often it is saved and validated.

    validated: whether there is anything to validate on.

    Raises:
        ValueError: the best model is asked for, and nothing shows it, or checkpoints would fall between validations.
    """
    batches = -(-len(curriculum) // (settings.per_device_train_batch_size * max(settings.world_size, 1)))
    whole = -(-batches // settings.gradient_accumulation_steps)
    steps = whole if settings.max_steps <= 0 else min(settings.max_steps, whole)
    if steps < settings.max_steps:
        log.warning(
            "--max_steps %d: the epochs have %d steps, after which training ends; --num_train_epochs gives more",
            settings.max_steps, steps,
        )  # fmt: skip
    an_epoch = whole / curriculum.epochs
    planned = with_changes(
        settings,
        max_steps=steps,
        save_steps=_as_steps(settings.save_steps, steps) or max(1, round(settings.save_epochs * an_epoch)),
        eval_steps=_as_steps(settings.eval_steps, steps) or max(1, round(settings.eval_epochs * an_epoch)),
        # An epoch is one of the curriculum's, of which Trainer knows nothing.
        save_strategy="steps" if settings.save_strategy == "epoch" else settings.save_strategy,
        eval_strategy="steps" if settings.eval_strategy == "epoch" else settings.eval_strategy,
        logging_steps=min(settings.logging_steps, max(1, steps // 20)),
    )
    if not validated:
        return _without_validation(planned)
    if planned.load_best_model_at_end and planned.save_strategy == "steps" and planned.save_steps % planned.eval_steps:
        raise ValueError(
            f"--load_best_model_at_end: a checkpoint every {planned.save_steps} steps does not fall on a validation "
            f"every {planned.eval_steps}: pass --save_steps that is a multiple of --eval_steps"
        )
    return planned


def _without_validation(settings: SettingsT) -> SettingsT:
    if settings.load_best_model_at_end or settings.save_strategy == "best":
        raise ValueError(
            "nothing is validated on, which shows no best model: give validation rows, or leave out "
            "--load_best_model_at_end and --save_strategy best"
        )
    return with_changes(settings, eval_strategy="no")


def _as_steps(steps: float, run: int) -> int:
    """Return whole steps; below 1 they are a share of the run, as for Trainer."""
    return math.ceil(steps * run) if steps < 1 else int(steps)


class TokenizedRows(Dataset):
    """Rows tokenised once, ahead of the training step.

    The index of an item is `row` (validation) or `(row, epoch)` (training: the epoch seeds the augmentation; below 0
    it stands for -1 - epoch, and none of the labels counts). An item holds `row_index, clip_id, prompt_ids (None where
    the model has no prompt), label_ids, epoch`. The processor makes prompts and labels; labels are cut at
    `max_answer_tokens` without losing the end token, and `cut` has the rows whose labels are.
    """

    def __init__(self, rows: Sequence[Row], processor: ProcessorMixin, max_answer_tokens: int = 128) -> None:
        self.rows = list(rows)
        answers = processor.answer_ids([row.answer for row in self.rows], max_answer_tokens)
        self.labels = [np.array(ids, dtype=np.int64) for ids in answers]
        self.prompts = {question: _prompt(processor, question) for question in {row.question for row in self.rows}}
        self.max_answer_tokens = max_answer_tokens
        long = [index for index, ids in enumerate(self.labels) if len(ids) == max_answer_tokens]
        whole = processor.answer_ids([self.rows[index].answer for index in long])
        self.cut = [index for index, ids in zip(long, whole, strict=True) if len(ids) > max_answer_tokens]

    def warn_of_cut(self) -> None:
        """Name in the log how many answers are cut, and the clip of the first."""
        if self.cut:
            log.warning(
                "%d of %d answers are longer than %d tokens and are cut there, that of %s first: --max_answer_tokens "
                "keeps more of them", len(self.cut), len(self), self.max_answer_tokens, self.rows[self.cut[0]].clip_id,
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        row_index, epoch = index if isinstance(index, tuple) else (index, None)
        row, labels = self.rows[row_index], self.labels[row_index]
        if epoch is not None and epoch < 0:
            labels, epoch = np.full_like(labels, IGNORED), -1 - epoch
        return {
            "row_index": row_index,
            "clip_id": row.clip_id,
            "prompt_ids": self.prompts[row.question],
            "label_ids": labels,
            "epoch": epoch,
        }

    @property
    def lengths(self) -> np.ndarray:
        """Label tokens of each row: what the cost of a training step grows with."""
        return np.array([len(ids) for ids in self.labels])

    @property
    def clip_numbers(self) -> np.ndarray:
        """An integer for each row, equal for rows of one clip."""
        return np.unique([row.clip_id for row in self.rows], return_inverse=True)[1]


def concatenate_configs(configs: Mapping[str, Sequence[Row]]) -> tuple[list[Row], dict[str, np.ndarray]]:
    """Return all rows in one list, and for each configuration the indices of its rows."""
    rows: list[Row] = []
    indices = {}
    for name, part in configs.items():
        indices[name] = np.arange(len(rows), len(rows) + len(part))
        rows.extend(part)
    return rows, indices


def _prompt(processor: ProcessorMixin, question: str | None) -> np.ndarray | None:
    ids = processor.prompt_ids(question)
    return None if ids is None else np.array(ids, dtype=np.int64)


@dataclass(frozen=True)
class TrainingData:
    """All that a run reads: its corpus, features, and training rows with the order in which they come."""

    corpus: Corpus
    configs: dict[str, SplitRows]
    features: FeatureStore
    rows: TokenizedRows
    curriculum: CurriculumSampler

    def fingerprint(self) -> str:
        """Return number and hash of the rows to train and to validate on, the sound of their clips included."""
        kept = [(name, split, row) for name in sorted(self.configs) for split in ("train", "validation")
                for row in self.configs[name].get(split, [])]  # fmt: skip
        digest = hashlib.sha256()
        for name, split, row in kept:
            sound = self.features.sha256(row.clip_id)
            record = (name, split, row.clip_id, row.question, row.answer, row.tags, sound)
            digest.update(repr(record).encode("utf-8", "surrogatepass"))
        return f"{len(kept)} rows, hash {digest.hexdigest()[:12]}"


def prepare_data(
    corpus: Corpus, stages: Sequence[Stage], features: FeatureStore, processor: ProcessorMixin,
    settings: TrainingSettings,
) -> TrainingData:  # fmt: skip
    """Tokenise the rows whose clips have features, and put the stages in order."""
    configs = hold_sounds_out(keep_heard(corpus.configs, features), features.feature_sha256)
    rows, indices = concatenate_configs({name: splits.get("train", []) for name, splits in configs.items()})
    tokenized = TokenizedRows(rows, processor, settings.max_answer_tokens)
    tokenized.warn_of_cut()
    processes = max(settings.world_size, 1)
    curriculum = CurriculumSampler(
        plan_stages(stages, indices, settings.num_train_epochs, settings.draws_per_epoch, [row.tags for row in rows]),
        tokenized.clip_numbers, tokenized.lengths,
        batch_size=rows_per_step(settings),
        rows_per_clip=settings.rows_per_clip, seed=settings.seed,
        multiple_of=1 if processes == 1 else settings.per_device_train_batch_size * processes,
    )  # fmt: skip
    return TrainingData(replace(corpus, configs=configs), configs, features, tokenized, curriculum)


def hold_sounds_out(configs: dict[str, SplitRows], feature_hash: Callable[[str], str]) -> dict[str, SplitRows]:
    """Return the rows without those of validation clips whose sound is trained on under another id; these are logged.

    feature_hash: gives a hash of a clip's features, equal for equal sound.
    """
    train = {row.clip_id for splits in configs.values() for row in splits.get("train", [])}
    known = {feature_hash(clip): clip for clip in sorted(train, reverse=True)}
    held = {row.clip_id for splits in configs.values() for row in splits.get("validation", [])}
    copies = {clip: known[sound] for clip in sorted(held) if (sound := feature_hash(clip)) in known}
    if not copies:
        return configs
    clip, same = next(iter(copies.items()))
    log.warning(
        "left out of validation: %d clips whose sound is trained on, %s first, which sounds like %s",
        len(copies), clip, same,
    )  # fmt: skip
    return {
        config: {**splits, "validation": [row for row in splits.get("validation", []) if row.clip_id not in copies]}
        for config, splits in configs.items()
    }


def some_features(data: TrainingData, clips: int = 64) -> torch.Tensor:
    """Return the features of evenly spread training clips, (clips, bands, frames)."""
    ids = sorted({row.clip_id for row in data.rows.rows})
    chosen = ids[:: max(1, len(ids) // clips)][:clips]
    return torch.from_numpy(np.stack([data.features.read(clip_id) for clip_id in chosen]))


def spread_evenly(items: Iterable[Kind], count: int) -> list[Kind]:
    """Return at most `count` different items, spread evenly over all in their order."""
    different = list(dict.fromkeys(items))
    indices = np.linspace(0, len(different) - 1, min(count, len(different))).astype(int)
    return [different[index] for index in indices]
