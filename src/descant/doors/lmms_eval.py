"""descant's models in lmms-eval: `lmms-eval --model descant --model_args pretrained=box --tasks muchomusic,mmau`.

Multiple-choice prompts are answered by the probabilities of their options, with a letter; other prompts in words. A
question that the model was not trained on is answered "I am not sure.", in which lmms-eval's parsers find no letter.
"""

import logging
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from tqdm import tqdm

from descant.answering.answers import TrackAnswer
from descant.answering.listener import load
from descant.answering.stream import Audio
from descant.data.audio import AudioError
from descant.evaluation.multiple_choice import as_choice, read_options
from descant.models import box

log = logging.getLogger(__name__)

UNSURE = "I am not sure."


def list_models() -> list[ModelManifest]:
    """Return what lmms-eval registers: it finds this function by the entry point `lmms_eval.models`."""
    return [ModelManifest(model_id="descant", simple_class_path="descant.doors.lmms_eval.DescantModel")]


class DescantModel(lmms):
    """A question-answering model of descant behind lmms-eval's interface."""

    is_simple = True

    def __init__(
        self, pretrained: str = box.NAME, hear: int | str = 12, precision: str = "fp32", batch_size: int | str = 1,
        device: str | None = None, **unknown: Any,
    ) -> None:  # fmt: skip
        """Load a model.

        Args:
            pretrained: a folder, or an id on the Hub; by default the model in the box.
            hear: how many windows of 10 s of a recording are heard at most, or "all".
            precision: fp32, bf16 or int8.
            batch_size: taken for lmms-eval's sake; questions are asked one after the other.
            device: by default the GPU where there is one.

        Raises:
            ValueError: an argument that is none of these.
        """
        super().__init__()
        if unknown:
            raise ValueError(f"descant takes no model argument {', '.join(sorted(unknown))}: leave it out")
        device = device if device != "cuda" or torch.cuda.is_available() else None  # lmms-eval's own default
        self.listener = load(pretrained, precision=precision, device=device)
        self.hear = None if hear == "all" else int(hear)

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Answer each request: (prompt, settings, its sound, id, task, split)."""
        answers = []
        for request in tqdm(requests, desc="Answering", disable=self.rank != 0):
            prompt, _, find_sound, number, task, split = request.args
            answers.append(self.answer(prompt, find_sound(self.task_dict[task][split][number])))
        return answers

    def answer(self, prompt: str, sounds: Sequence[Any]) -> str:
        """Answer one prompt about one recording: with the likeliest option's letter where it has options.

        What cannot be heard, or was not learnt, is answered `UNSURE`.

        Raises:
            ValueError: there is not exactly one recording.
        """
        if len(sounds) != 1:
            raise ValueError(f"a question with {len(sounds)} recordings: descant hears exactly one")
        try:
            return self._answer(prompt, *read_sound(sounds[0]))
        except AudioError as error:  # a recording of thousands
            log.warning("answered %r: %s", UNSURE, error)
            return UNSURE

    def _answer(self, prompt: str, audio: Audio, rate: int | None) -> str:
        question, options = read_options(prompt)
        if not options:
            given = self.listener.ask(audio, question, hear=self.hear, sampling_rate=rate)
            return cast(TrackAnswer, given).prediction or UNSURE
        asked = {"answer": as_choice(question, options)}
        decided = self.listener.decide(audio, asked, hear=self.hear, sampling_rate=rate)["answer"]
        if "reason" in decided:  # no music, or no question that the model was trained on: nothing is guessed
            return UNSURE
        likeliest = max(decided["probabilities"], key=decided["probabilities"].__getitem__)
        return next(letter for letter, text in options.items() if text == likeliest)

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Refuse: no task about sound asks for likelihoods of single continuations."""
        raise NotImplementedError("descant answers generate_until tasks; options are scored there already")

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Refuse: rounds that build on each other are not what the models learnt."""
        raise NotImplementedError("descant answers one question about a recording at a time")


def read_sound(sound: Any) -> tuple[Audio, int | None]:
    """Return what `Listener.ask` takes, from a path, or the forms in which `datasets` decodes sound."""
    if isinstance(sound, str):
        return sound, None
    return np.asarray(sound["array"], dtype=np.float32), int(sound["sampling_rate"])
