"""Typed questions about music: what type of question they are, how an option becomes text, and what is answered.

A question is one of System One's (`transformers.decision`): `choice`, `score` or `noul`. It is scored through the
sentences that the model was trained to write: the probability of an option is that of all sentences that state it,
each read up to the token that decides for it, times what a probe gives it. This file lies in the folder of every
question-answering model, byte for byte the same.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import ProcessorMixin
from transformers.utils import cached_file, logging

from .answer_tree import AnswerTree, build_tree, load_units
from .decision_file import are_close, know_weights, write_settings

try:
    from transformers.decision import DecisionConfig, Question, parse_questions
except ImportError:  # transformers before 5.24 has no typed questions: the same shapes without its validation

    @dataclass
    class DecisionConfig:  # type: ignore[no-redef]
        """The part of transformers' settings that is read here."""

        labels: dict[str, list[str]] = field(default_factory=dict)
        noul_options: list[str] = field(default_factory=lambda: ["true", "false"])

        @classmethod
        def from_file(cls, path: str | Path | None = None) -> "DecisionConfig":
            values = {} if path is None else json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(**{one.name: values[one.name] for one in fields(cls) if one.name in values})

    @dataclass
    class Question:  # type: ignore[no-redef]
        """One question with its options: the keys of a choice, the levels of a score, or true and false."""

        name: str
        type: str
        instructions: Any
        options: list[str]
        descriptions: list[Any]

        def answer(self, probabilities: list[float]) -> dict[str, Any]:
            by_option, count = dict(zip(self.options, probabilities, strict=True)), len(probabilities)
            if self.type == "noul":
                return {"type": "noul", "noul": by_option["true"]}
            best = max(by_option, key=by_option.__getitem__)
            if self.type == "choice":
                confidence = 1.0 if count == 1 else max(0.0, (by_option[best] - 1 / count) / (1 - 1 / count))
                return {"type": "choice", "choice": best, "confidence": confidence, "probabilities": by_option}
            spread = sum(value * abs(level - int(best)) for level, value in enumerate(probabilities))
            uniform = sum(abs(level - (count - 1) / 2) for level in range(count)) / count
            return {
                "type": "score",
                "score": sum(level * value for level, value in enumerate(probabilities)),
                "legend": dict(zip(self.options, self.descriptions, strict=True)),
                "confidence": 1.0 if count == 1 else max(0.0, 1 - spread / uniform),
                "probabilities": by_option,
            }

    def parse_questions(questions: dict[str, Any], config: DecisionConfig) -> list[Question]:
        return [read_question(name, question, config) for name, question in questions.items()]

    def read_question(name: str, question: Any, config: DecisionConfig) -> Question:
        kind = question.get("type") if isinstance(question, dict) else None
        criteria = question.get("criteria") if isinstance(question, dict) else None
        if kind == "noul":
            criteria = {option: (criteria or {}).get(option) for option in config.noul_options}
        elif kind == "score" and isinstance(criteria, list):
            criteria = {str(level): text for level, text in enumerate(criteria)}
        if kind not in ("noul", "choice", "score") or not isinstance(criteria, dict) or not criteria:
            raise ValueError(f"Question {name!r}: give a `type` of noul, choice or score, and its `criteria`")
        return Question(name, kind, question.get("instructions"), list(criteria), list(criteria.values()))


logger = logging.get_logger(__name__)

DECISION_FILE = "decision.json"
OF_REPOSITORY = ("cache_dir", "local_files_only", "revision", "subfolder", "token")  # arguments of from_pretrained
UNTRAINED = "unlike training"  # why a question is not answered
MAX_OPTIONS = 1000
PLACE = "{option}"
WORD = re.compile(r"[^\W_]+(?:/\d+)?")
BETWEEN_WORDS = re.compile(r"(?<=\w)[\s_-]+(?=\w)")  # "neo-soul" is "neo soul", and "-1" is not "1"
DENIAL = re.compile(r"\b(?:no|not|without|never|none|neither)\b|\w+less\b", re.IGNORECASE)
EXISTENCE = re.compile(r"\s*(?:is|are) there\b|.*\b(?:audible|present|heard)\b", re.IGNORECASE)
GENERIC = {"class", "instrument", "type"}  # words of a type's name that do not tell it from others


@dataclass
class QuestionType:
    """What typed answers to one type of question need, fitted on training and validation rows.

    questions: wordings that the model was trained on, the commonest first.
    answers: canonical option → sentences that state it. synonyms: canonical option → its other names.
    carriers: sentences with `{option}` in the place of an option, for options that have no sentences of their own.
    shifts: canonical option → what is added to its log-probability: the logarithm of its share of the validation rows
        less that of its mean probability there, since models prefer the sentences that they write most easily.
    probe: canonical option → a weight of each audio state (`read_hidden`), then a constant: what they add up to
        is added to its log-probability, where all options of a question are of this type.
    temperature: what log-probabilities are divided by. threshold: the least probability of an answer that is sure.
    decisions: how many validation decisions both were fitted on.
    """

    questions: list[str]
    answers: dict[str, list[str]]
    synonyms: dict[str, list[str]] = field(default_factory=dict)
    carriers: list[str] = field(default_factory=list)
    shifts: dict[str, float] = field(default_factory=dict)
    probe: dict[str, list[float]] = field(default_factory=dict)
    temperature: float = 1.0
    threshold: float = 1.0
    decisions: int = 0

    def __post_init__(self) -> None:
        self._names = {
            plain_words(name): option for option in self.answers for name in (option, *self.synonyms.get(option, ()))
        }

    def find_option(self, text: str) -> str | None:
        """Return the canonical option that `text` is a name of; None where it is no option of this type."""
        return self._names.get(plain_words(text))

    def find_mentioned(self, text: str) -> str | None:
        """Return the one canonical option that a sentence mentions, the longest names first; None for none or many."""
        words, mentioned = f" {plain_words(text)} ", set()
        for name in sorted(self._names, key=len, reverse=True):
            words, count = re.subn(rf" {re.escape(name)}(?:e?s)? ", " | ", words)
            if count:
                mentioned.add(self._names[name])
        return mentioned.pop() if len(mentioned) == 1 else None

    def names_in(self, text: str) -> list[str]:
        """Return the names of options that a sentence holds, in the singular or plural."""
        return [name for name in self._names if re.search(rf"\b{re.escape(name)}(?:e?s)?\b", plain_words(text))]

    def sentences(self, option: str) -> list[str]:
        """Return the sentences that state an option: its own ones, or the carriers filled with it."""
        canonical = self.find_option(option)
        return [fill_carrier(one, option) for one in self.carriers] if canonical is None else self.answers[canonical]

    def shift(self, option: str) -> float:
        """Return what is added to the log-probability of an option, 0 for one that is not of this type."""
        return self.shifts.get(self.find_option(option) or "", 0.0)

    def weights(self, option: str) -> list[float]:
        """Return the probe's weights of an option, none where it has no probe."""
        return self.probe.get(self.find_option(option) or "", [])

    def denied(self) -> list[str]:
        """Return the options that say that something is absent, such as "no drums"."""
        return [option for option in self.answers if DENIAL.search(option)]


def plain_words(text: str) -> str:
    """Lower-case the words of a text, single spaces between them: hyphens and punctuation do not count."""
    return " ".join(WORD.findall(text.casefold()))


def fill_carrier(carrier: str, option: str) -> str:
    """Put an option into a carrier, behind the article that it needs."""
    ending = "n " if option[:1].lower() in "aeiou" else " "
    sentence = re.sub(r"\b([Aa])n? (?=\{option\})", lambda match: match[1] + ending, carrier)
    return sentence.replace(PLACE, option)


@dataclass
class MusicDecisionConfig(DecisionConfig):
    """Settings of typed answers about music, saved as `decision.json`.

    Beside those of transformers' `DecisionConfig`:
    question_types: name → fields of a `QuestionType`. wordings: how many wordings of a question are averaged.
    precision: the share of sure answers that are right, for which the thresholds were fitted.
    reference: what tells music from other sounds, fields of a `MusicReference`; without it all sound is music.
    claims: what long answers may claim, fields of `SureClaims`; without it they claim everything.
    fitted_for: the `fingerprint` of the weights that all this was fitted for; without it, it is used with any.
    hidden: the `HiddenUnits` above the encoder's states that the probes read, as text; without them they read states.
    """

    question_types: dict[str, dict] = field(default_factory=dict)
    wordings: int = 3
    precision: float = 0.8
    reference: dict | None = None
    claims: dict | None = None
    fitted_for: dict[str, list[float]] = field(default_factory=dict)
    hidden: str = ""

    def __post_init__(self) -> None:
        for kind in ("choice", "score"):  # options are sentences here, not single tokens: there is no limit of 26
            self.labels.setdefault(kind, [str(number) for number in range(MAX_OPTIONS)])

    def types(self) -> dict[str, QuestionType]:
        """Return the question types that the model was trained on."""
        return {name: QuestionType(**values) for name, values in self.question_types.items()}

    def plan(self, questions: Mapping[str, Any]) -> "list[PlannedQuestion]":
        """Read System One questions and say how each is scored.

        Raises ValueError for what is no such question, and for options among which there is nothing to choose.
        """
        types = self.types()
        planned = [plan_question(question, types) for question in parse_questions(dict(questions), self)]
        for one in planned:
            require_choice(one)
        return planned

    def prepare_inputs(self, request: Mapping[str, Any], processor: ProcessorMixin) -> list[tuple[dict, list]]:
        """Prepare `model.decide`'s arguments for a request: `{"state": windows, "questions": {name: question}}`.

        state: mono waveforms at the processor's rate, one a window, each at most one window long.
        Returns one pair of arguments and questions, without questions of types that the model was not trained on.
        """
        planned = [one for one in self.plan(request["questions"]) if one.type is not None]
        if not planned:
            return []
        features = prepare_windows(request["state"], processor)
        return [({"input_features": features, **self.prepare_questions(planned, processor)}, planned)]

    def prepare_questions(self, planned: "Sequence[PlannedQuestion]", processor: ProcessorMixin) -> dict[str, list]:
        """Return the token ids of the wordings in which each question is asked, and the tree of its answers."""
        prompts = [[processor.prompt_ids(text) for text in self.asked(one)] for one in planned]
        hidden, trees = load_units(self.hidden), []
        for one in planned:
            answers = [processor.answer_ids(texts) for texts in one.sentences]
            trees.append(build_tree(answers, one.shifts, one.weights, hidden))
        return {"prompts": prompts, "trees": trees}

    def asked(self, planned: "PlannedQuestion") -> list[str]:
        """Return the wordings in which a question is asked: those with which its type was fitted."""
        return planned.type.questions[: self.wordings] if planned.type is not None else []

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write `decision.json` in one step, without the labels, which are the same for every model."""
        values = {name: value for name, value in asdict(self).items() if name not in ("chat_template", "labels")}
        write_settings(Path(save_directory) / DECISION_FILE, values)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, config_name: str = DECISION_FILE, **kwargs: Any
    ) -> "MusicDecisionConfig":
        """Read `decision.json` of a model folder or Hub id; the defaults where there is none."""
        kwargs["_raise_exceptions_for_missing_entries"] = False
        return cls.from_file(cached_file(pretrained_model_name_or_path, config_name, **kwargs))


def prepare_windows(waveforms: Iterable[Any], processor: ProcessorMixin) -> torch.Tensor:
    """Return the `input_features` of mono waveforms at the processor's rate, a short one repeated to fill a window.

    Silence behind it would be heard as part of the music.
    """
    extractor = processor.feature_extractor
    filled = [fill_window(np.asarray(one), extractor) for one in waveforms]
    return processor(audio=filled, sampling_rate=extractor.sampling_rate, return_tensors="pt")["input_features"]


def fill_window(waveform: np.ndarray, front_end: Any) -> np.ndarray:
    """Return a mono waveform (samples,), a short one repeated until it fills a window of a front end."""
    size = round(front_end.window_s * front_end.sampling_rate)
    return np.resize(waveform, size) if len(waveform) < size else waveform


@dataclass
class PlannedQuestion:
    """A question, its type (None: the model was not trained on it), and the sentences that state each option.

    shifts, weights: of each sentence (option → sentences), as `build_tree` takes them.
    """

    question: Question
    type_name: str | None = None
    type: QuestionType | None = None
    sentences: list[list[str]] = field(default_factory=list)
    shifts: list[list[float]] = field(default_factory=list)
    weights: list[list[list[float]]] = field(default_factory=list)
    known: bool = False

    @property
    def name(self) -> str:
        """Return the name under which the question was asked."""
        return self.question.name

    @property
    def temperature(self) -> float:
        """Return what its log-probabilities are divided by."""
        return 1.0 if self.type is None else self.type.temperature


def plan_question(question: Question, types: Mapping[str, QuestionType]) -> PlannedQuestion:
    """Find a question's type, and the sentences that state each of its options."""
    name = find_type(question, types)
    if name is None:
        return PlannedQuestion(question)
    kind = types[name]
    options = split_noul(question, kind) if question.type == "noul" else [[text] for text in option_texts(question)]
    if options is None:
        return PlannedQuestion(question)
    stated = [{text: option for option in group for text in kind.sentences(option)} for group in options]
    if not all(stated):
        return PlannedQuestion(question)
    known = all(kind.find_option(option) is not None for group in options for option in group)
    sentences, shifts = [list(one) for one in stated], [[*map(kind.shift, one.values())] for one in stated]
    # What the probe gives one option says nothing beside another that it does not know: then the words alone decide.
    probed = all(kind.weights(option) for group in options for option in group)
    weights = [[kind.weights(option) if probed else [] for option in one.values()] for one in stated]
    return PlannedQuestion(question, name, kind, sentences, shifts, weights, known)


def require_choice(planned: PlannedQuestion) -> None:
    """Raise ValueError for an empty option, two that mean the same, or one alone.

    One alone would always be sure, and two of one meaning would share what is probable between them.
    """
    if planned.question.type == "noul":
        return
    kind, given = planned.type, dict[str, str]()
    for text in option_texts(planned.question):
        meaning = (kind.find_option(text) if kind else None) or BETWEEN_WORDS.sub(" ", text.casefold()).strip()
        if not meaning:
            raise ValueError(f"Question {planned.name!r}: an option is empty: give each a name")
        if meaning in given:
            same = f"{given[meaning]!r} and {text!r}"
            raise ValueError(f"Question {planned.name!r}: {same} are the same option: give one of them")
        given[meaning] = text
    if len(given) < 2:
        raise ValueError(f"Question {planned.name!r}: one option is no choice: give two or more")


def option_texts(question: Question) -> list[str]:
    """Return the options of a choice as its keys, the levels of a score as they are described."""
    return list(question.options) if question.type == "choice" else [str(text) for text in question.descriptions]


def split_noul(question: Question, kind: QuestionType) -> list[list[str]] | None:
    """Divide a type's options into those for which the answer is yes and those for which it is no, in template order.

    A question that mentions an option asks for it; any other asks whether there is something at all.
    """
    mentioned, denied = kind.find_mentioned(str(question.instructions or question.name)), kind.denied()
    yes = [mentioned] if mentioned else [option for option in kind.answers if option not in denied]
    no = [option for option in kind.answers if option not in yes]
    groups = {"true": yes, "false": no}
    return [groups[option] for option in question.options] if yes and no else None


def find_type(question: Question, types: Mapping[str, QuestionType]) -> str | None:
    """Return the name of the type that a question belongs to; None where it belongs to none.

    By its wording, else by its options, else by an option that it mentions, else by the words of the type's name.
    """
    text = str(question.instructions or "")
    for name, kind in types.items():
        if plain_words(text) in map(plain_words, kind.questions):
            return name
    for rule in (share_of_options, mentions_option, names_type):
        asked = {name: (question, name, kind) for name, kind in types.items()}
        scores = {name: (rule(*one), shared_words(*one)) for name, one in asked.items()}
        fitting = {name: score for name, score in scores.items() if score[0] > 0}
        if fitting:
            return max(fitting, key=lambda name: fitting[name])
    return None


def share_of_options(question: Question, name: str, kind: QuestionType) -> float:
    """Return the share of a question's options that a type has; 0 for a half or less."""
    if question.type == "noul":
        return 0.0
    texts = option_texts(question)
    if set(map(plain_words, texts)) <= {"yes", "no"}:
        return 0.0
    share = sum(kind.find_option(text) is not None for text in texts) / len(texts)
    return share if share > 0.5 else 0.0


def mentions_option(question: Question, name: str, kind: QuestionType) -> float:
    """Return how many words of a question of yes or no name an option: "female singer" is more than "singer".

    Whether there is something, only a type that may say that there is none can answer: what leads is not all that
    plays.
    """
    text = str(question.instructions or question.name)
    answers = bool(kind.denied()) or not EXISTENCE.match(text)
    if question.type != "noul" or not answers or kind.find_mentioned(text) is None:
        return 0.0
    return float(max(len(one.split()) for one in kind.names_in(text)))


def names_type(question: Question, name: str, kind: QuestionType) -> float:
    """Return 1 where the question has all words of the type's name, else 0."""
    words = set(plain_words(name).replace("_", " ").split()) - GENERIC
    asked = set(plain_words(f"{question.name} {question.instructions or ''}").replace("_", " ").split())
    return float(bool(words) and words <= asked)


def shared_words(question: Question, name: str, kind: QuestionType) -> float:
    """Return how many of a question's words the wordings of a type use, at best (Jaccard's index)."""
    asked = set(plain_words(f"{question.name} {question.instructions or ''}").replace("_", " ").split())
    wordings = [set(plain_words(f"{name} {text}").replace("_", " ").split()) for text in kind.questions]
    return max((len(asked & words) / len(asked | words) for words in wordings), default=0.0)


def pool_windows(scores: torch.Tensor) -> torch.Tensor:
    """Average the log-probabilities of windows (windows, options) to those of a track (options,).

    The geometric mean: windows of a track are no independent witnesses, so a long track is not surer than a short one,
    and a window that rules an option out counts against it.
    """
    return scores.log_softmax(dim=1).mean(dim=0).log_softmax(dim=0)


def decide_options(planned: PlannedQuestion, scores: torch.Tensor) -> torch.Tensor:
    """Pool log-probabilities of windows (windows, options) and apply the temperature; returns (options,)."""
    return (pool_windows(scores) / planned.temperature).log_softmax(dim=0)


def answer_question(planned: PlannedQuestion, scores: torch.Tensor | None) -> dict[str, Any]:
    """Return System One's answer with `sure`, whether its probability reaches the fitted threshold.

    scores: log-probabilities (options,) as `decide` gives them; None where the model was not trained on such a
    question: then all options are equally likely, and `reason` says so.
    """
    count = len(planned.question.options)
    probabilities = [1 / count] * count if scores is None else scores.cpu().double().softmax(dim=0).tolist()
    answer = planned.question.answer(probabilities)
    if scores is None or planned.type is None:
        return answer | {"sure": False, "reason": UNTRAINED}
    return answer | {"sure": planned.known and max(probabilities) >= planned.type.threshold}


class MusicDecisionMixin:
    """`decide`, and the `decision_config` that is loaded and saved with a model, as of transformers' `DecisionMixin`.

    The model class adds `score_options(input_features, prompts, trees)`: log-probabilities (windows, options) of each
    question, averaged over its wordings; `audio_layers`: layers that train whole, by name; and `frozen_audio`: parts
    that never do.
    """

    decision_config: MusicDecisionConfig | None = None  # None: typed questions have not been fitted

    @torch.no_grad()
    def decide(
        self,
        *,
        input_features: torch.Tensor,
        prompts: list[list[list[int]]],
        trees: list[AnswerTree],
        decision_questions: list[PlannedQuestion],
        decision_config: MusicDecisionConfig | None = None,
    ) -> list[torch.Tensor]:
        """Score the options of each question about the windows of one track; returns log-probabilities (options,).

        input_features: (windows, …). prompts, trees, decision_questions: as `prepare_inputs` of the decision
        configuration makes them. decision_config is ignored: what is used of it is in the questions.
        """
        scores = self.score_options(input_features, prompts, trees)  # type: ignore[attr-defined]  # the model class's
        return [decide_options(one, windows) for one, windows in zip(decision_questions, scores, strict=True)]

    @torch.no_grad()
    def fingerprint(self) -> dict[str, list[float]]:
        """Return numbers that the weights alone give, by the names of layers and parts.

        They are those of the audio side, and of the first, the middle and the last layer that LoRA adapts.
        """
        model: Any = self  # a PreTrainedModel
        return know_weights(model, model.lora_target_modules, model.audio_layers(), model.frozen_audio())

    def load_decisions(self, source: str | Path, arguments: Mapping[str, Any]) -> None:
        """Read the `decision.json` of the folder or Hub id that a model, or its adapter, was loaded from.

        arguments: those of `from_pretrained`. One that was fitted for other weights is left out, with a warning.
        """
        adapter = (arguments.get("adapter_kwargs") or {}).get("_adapter_model_path")
        hub = {name: arguments[name] for name in OF_REPOSITORY if name in arguments and adapter is None}
        config = MusicDecisionConfig.from_pretrained(adapter or source, **hub)
        self.decision_config = self._keep_fitting(config, adapter or source) if config.question_types else None

    def _keep_fitting(self, config: MusicDecisionConfig, folder: str | Path) -> MusicDecisionConfig | None:
        own = self.fingerprint() if config.fitted_for else {}
        if all(are_close(outputs, config.fitted_for.get(name, ())) for name, outputs in own.items()):
            return config
        logger.warning(f"{folder}: {DECISION_FILE} was fitted for other weights and is left out: recipes fit it anew")
        return None

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
        """Save the model as its other classes do, and `decision.json` where it was fitted for these weights."""
        super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]  # of PreTrainedModel
        if self.decision_config is not None and kwargs.get("is_main_process", True):
            kept = self._keep_fitting(self.decision_config, save_directory)
            if kept is not None:
                kept.save_pretrained(save_directory)


__all__ = ["MusicDecisionConfig", "MusicDecisionMixin", "PlannedQuestion", "QuestionType", "answer_question",
           "decide_options", "pool_windows"]  # fmt: skip
