"""The order in which a run sees its rows: one seeded stream over all stages and epochs."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from descant.training.recipe import Stage, TrainingSettings

# Tokens by which rows that stay together may differ. At bart-base size, padding an answer by 23 tokens costs as much
# as encoding the audio of one clip.
LIKE_LENGTH = 12


class Place(NamedTuple):
    """A row in its epoch, with the number of its block (rows of one clip that stay together) and longest row there."""

    longest: int
    block: int
    row: int
    epoch: int


@dataclass(frozen=True)
class StagePlan:
    """The rows (indices into the training rows) of one stage and how many epochs they are seen.

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
        return self.draws or len(self.rows)

    def epoch_rows(self, random: np.random.Generator) -> np.ndarray:
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
    """Whole epochs of each stage, `num_epochs` (rounded) in all: as near their proportion as one for each allows.

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

    The whole run is one pass, so that one schedule spans stages of different sizes and a resumed run skips to its
    place. Within stretches of up to 50 batches, rows of like length share a batch. With `rows_per_clip` above 1, up to
    as many rows of one clip stay together where they are of like length too: its audio is encoded once for them.
    """

    def __init__(
        self, stages: Sequence[StagePlan], clips: np.ndarray, lengths: np.ndarray, *, batch_size: int,
        rows_per_clip: int = 1, seed: int = 42,
    ) -> None:  # fmt: skip
        self.stages, self.clips, self.lengths = list(stages), np.asarray(clips), np.asarray(lengths)
        self.batch_size, self.rows_per_clip, self.seed = batch_size, rows_per_clip, seed
        smallest = min(stage.rows_per_epoch for stage in self.stages)
        self.stretch = batch_size * int(np.clip(smallest // (batch_size * 4), 1, 50))

    def __len__(self) -> int:
        return sum(stage.rows_per_epoch * stage.epochs for stage in self.stages)

    @property
    def epochs(self) -> int:
        return sum(stage.epochs for stage in self.stages)

    def stage_at(self, row_count: int) -> tuple[str, float]:
        """Name of the stage and the epoch (fractional) reached once `row_count` rows have been seen."""
        epoch = 0.0
        for stage in self.stages:
            rows = stage.rows_per_epoch * stage.epochs
            if row_count < rows or stage is self.stages[-1]:
                return stage.name, epoch + row_count / stage.rows_per_epoch
            row_count, epoch = row_count - rows, epoch + stage.epochs
        raise AssertionError("a curriculum has at least one stage")

    def __iter__(self) -> Iterator[tuple[int, int]]:
        pending: list[Place] = []
        for number, (block, epoch) in enumerate(self._blocks()):
            longest = int(self.lengths[block].max())
            pending += [Place(longest, number, int(row), epoch) for row in block]
            if len(pending) >= self.stretch:
                whole = len(pending) // self.batch_size * self.batch_size
                yield from self._grouped(pending[:whole], number)
                pending = pending[whole:]
        whole = len(pending) // self.batch_size * self.batch_size
        yield from self._grouped(pending[:whole], 0)
        yield from ((place.row, place.epoch) for place in pending[whole:])

    def _blocks(self) -> Iterator[tuple[np.ndarray, int]]:
        """Rows of one clip, at most `rows_per_clip` at a time, in the seeded order of each epoch."""
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
        """Where in `rows`, sorted by clip and length, the next block starts: as many rows of one clip as may be."""
        starts, first = [], 0
        for place in range(1, len(rows)):
            same_clip = self.clips[rows[place]] == self.clips[rows[first]]
            alike = self.lengths[rows[place]] - self.lengths[rows[first]] <= LIKE_LENGTH
            if not (same_clip and alike and place - first < self.rows_per_clip):
                starts.append(place)
                first = place
        return starts

    def _grouped(self, places: list[Place], number: int) -> Iterator[tuple[int, int]]:
        """One stretch of whole batches: blocks sorted by their longest row, batches shuffled."""
        places = sorted(places, key=lambda place: (place.longest, place.block))
        starts = np.arange(0, len(places), self.batch_size)
        for start in np.random.default_rng([self.seed, 1, number]).permutation(starts):
            yield from ((place.row, place.epoch) for place in places[start : start + self.batch_size])


def rows_per_step(args: TrainingSettings) -> int:
    """The effective batch: rows of all processes and accumulated batches in one optimizer step."""
    return args.per_device_train_batch_size * max(args.world_size, 1) * args.gradient_accumulation_steps


def set_steps(args: TrainingSettings, curriculum: CurriculumSampler) -> None:
    """Turn epochs into steps: the run's length, and how often it is saved and validated, if at all.

    Raises:
        ValueError: the best model is asked for, and checkpoints would fall between validations.
    """
    batches = -(-len(curriculum) // (args.per_device_train_batch_size * max(args.world_size, 1)))
    whole = -(-batches // args.gradient_accumulation_steps)
    args.max_steps = whole if args.max_steps <= 0 else min(args.max_steps, whole)
    an_epoch = whole / curriculum.epochs
    args.save_steps = _as_steps(args.save_steps, args.max_steps) or max(1, round(args.save_epochs * an_epoch))
    args.eval_steps = _as_steps(args.eval_steps, args.max_steps) or max(1, round(args.eval_epochs * an_epoch))
    # An epoch is one of the curriculum's, of which Trainer knows nothing.
    args.save_strategy = "steps" if args.save_strategy == "epoch" else args.save_strategy
    args.eval_strategy = "steps" if args.eval_strategy == "epoch" else args.eval_strategy
    args.logging_steps = min(args.logging_steps, max(1, args.max_steps // 20))
    if args.load_best_model_at_end and args.save_strategy == "steps" and args.save_steps % args.eval_steps:
        raise ValueError(
            f"--load_best_model_at_end: a checkpoint every {args.save_steps} steps does not fall on a validation "
            f"every {args.eval_steps}: pass --save_steps that is a multiple of --eval_steps"
        )


def _as_steps(steps: float, run: int) -> int:
    """Below 1 they are a share of the run, as for Trainer."""
    return math.ceil(steps * run) if steps < 1 else int(steps)


def validate_nothing(args: TrainingSettings) -> None:
    """The settings of a run that has nothing to validate on.

    Raises:
        ValueError: they ask for the best model, which nothing shows.
    """
    if args.load_best_model_at_end or args.save_strategy == "best":
        raise ValueError(
            "nothing is validated on, which shows no best model: give validation rows, or leave out "
            "--load_best_model_at_end and --save_strategy best"
        )
    args.eval_strategy = "no"
