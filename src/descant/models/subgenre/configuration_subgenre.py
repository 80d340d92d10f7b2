"""The sizes, labels and thresholds of a subgenre classifier."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

if TYPE_CHECKING:
    # Never executed, but save_pretrained and the Hub carry along each file that is imported relatively.
    from .pipeline_music_subgenre_classification import MusicSubgenreClassificationPipeline  # noqa: F401

SEPARATOR = "---"
FUSIONS = ("late", "cross_attention")
MODALITIES = ("lyrics", "captions", "audio")


def name_pipelines() -> dict[str, dict[str, Any]]:
    """Build the entry by which `pipeline` finds ours; a new one each time, since `pipeline` writes classes into it."""
    implementation = "pipeline_music_subgenre_classification.MusicSubgenreClassificationPipeline"
    pipeline = {"impl": implementation, "pt": ["AutoModelForSequenceClassification"]}
    return {"music-subgenre-classification": pipeline}


class SubgenreConfig(PreTrainedConfig):
    """A text encoder's configuration with the label tree and the fusion around it.

    text_config: of any encoder that `AutoModel` builds, as a configuration or its dict with `model_type`.
    label_tree: genre → its subgenres' own names, kept as pairs, for JSON sorts a dict's keys; a subgenre's full name
        is `genre---subgenre`.
    audio_dim: width of the captioner's audio embedding.
    audio_hidden_size: width of a hidden layer that reads the audio embedding; 0 for none.
    audio_dropout: share of the embedding, and of that layer, that training does without.
    hidden_size: width in which the modalities meet.
    fusion: `late` trains each modality by itself and adds up their logits; `cross_attention` lets each label attend
        to all windows and the audio.
    modality_dropout: chance that training hides a modality of a track from cross attention, so that any subset works
        later.
    token_dropout: chance that training hides a token of a text.
    thresholds: label → the probability from which it is named, of a subgenre given its genre (0.5 where none is
        given). threshold_scales: what they are multiplied by where only some modalities are there, such as
        `lyrics+captions` (1 where none is given), since the best threshold depends on how much is known.
    captioner: Hub id or folder of the captioner that gave captions and audio embedding. captioner_hash: its
        fingerprint, see `descant.answering.model_folder.fingerprint_model`.
    questions: what the captioner was asked about each window, `captioner_generation` with which settings.
    """

    model_type = "subgenre"
    sub_configs = {"text_config": AutoConfig}

    text_config: Any = None  # a PreTrainedConfig once it is read
    label_tree: Any = None  # a list of pairs once it is read
    audio_dim: int = 768
    hidden_size: int = 128
    fusion: str = "late"
    num_attention_heads: int = 4
    dropout: float = 0.1
    audio_hidden_size: int = 0
    audio_dropout: float = 0.0
    modality_dropout: float = 0.3
    token_dropout: float = 0.0
    initializer_range: float = 0.02
    thresholds: Any = None
    threshold_scales: Any = None
    captioner: str | None = None
    captioner_hash: str | None = None
    questions: list | None = None
    captioner_generation: dict | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.fusion not in FUSIONS:
            raise ValueError(f"fusion {self.fusion!r} is none of {', '.join(FUSIONS)}")
        if self.text_config is None:
            self.text_config = {"model_type": "distilbert"}
        if isinstance(self.text_config, dict):
            self.text_config = build_text_config(self.text_config)
        tree = self.label_tree or {"music": []}
        pairs = tree.items() if isinstance(tree, dict) else tree
        self.label_tree = [[genre, list(names)] for genre, names in pairs]
        check_names(self.label_tree)
        labels = [*self.genres, *self.subgenres]
        kwargs.pop("num_labels", None)
        self.id2label, self.label2id = dict(enumerate(labels)), {label: index for index, label in enumerate(labels)}
        self.problem_type = "multi_label_classification"
        self.thresholds, self.questions = dict(self.thresholds or {}), list(self.questions or [])
        self.captioner_generation = dict(self.captioner_generation or {})
        self.threshold_scales = dict(self.threshold_scales or {})
        check_thresholds(self.thresholds, self.threshold_scales, labels)
        # Only where the class came with the checkpoint: elsewhere `import descant` has registered the pipeline, and a
        # config that names one makes `pipeline` insist on remote code.
        kwargs.pop("custom_pipelines", None)
        if __name__.startswith("transformers_modules."):
            kwargs["custom_pipelines"] = name_pipelines()
        super().__post_init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Return the saved form, which names the pipeline for those who load the checkpoint with its code."""
        return {**super().to_dict(), "custom_pipelines": name_pipelines()}

    @property
    def genres(self) -> list[str]:
        """The first labels, in the tree's order."""
        return [genre for genre, _ in self.label_tree]

    @property
    def subgenres(self) -> list[str]:
        """The labels after the genres: full names, in the tree's order."""
        return [f"{genre}{SEPARATOR}{name}" for genre, names in self.label_tree for name in names]

    @property
    def parents(self) -> list[int]:
        """The index of the genre of each subgenre."""
        return [index for index, (_, names) in enumerate(self.label_tree) for _ in names]

    def find_captioner(self) -> str | None:
        """Return the captioner's folder inside the classifier's, wherever that was moved to, else `captioner`."""
        beside = Path(self.name_or_path or ".") / "captioner"
        return str(beside) if self.name_or_path and beside.is_dir() else self.captioner

    def list_thresholds(self, modalities: Collection[str] = MODALITIES) -> list[float]:
        """Return the probability from which each label is named, given these modalities (see `thresholds`)."""
        scale = self.threshold_scales.get(join_modalities(modalities), 1.0)
        return [scale * self.thresholds.get(self.id2label[index], 0.5) for index in range(self.num_labels)]


def build_text_config(values: dict[str, Any]) -> PreTrainedConfig:
    """Build the text encoder's configuration from its dict; raises ValueError for an unknown model type."""
    values = dict(values)
    model_type = values.pop("model_type", None)
    if model_type not in CONFIG_MAPPING:
        raise ValueError(f"text_config has model_type {model_type!r}, which transformers does not know")
    return CONFIG_MAPPING[model_type](**values)


def join_modalities(modalities: Collection[str]) -> str:
    """Return the name of a subset of the modalities, such as `lyrics+audio`."""
    return "+".join(name for name in MODALITIES if name in modalities)


def check_thresholds(thresholds: dict[str, float], scales: dict[str, float], labels: list[str]) -> None:
    """Raise ValueError where a threshold is for no label, or a scale for no subset of the modalities."""
    unknown = sorted(thresholds.keys() - set(labels))
    if unknown:
        raise ValueError(f"there is a threshold for {unknown[0]!r}, which is not in the label tree")
    for name in scales:
        if join_modalities(name.split("+")) != name:
            raise ValueError(f"threshold_scales has {name!r}: name modalities as in {'+'.join(MODALITIES)}")


def check_names(tree: list[list]) -> None:
    """Raise ValueError where two labels of the tree are equal, or a name is like a full name."""
    names = [genre for genre, _ in tree] + [name for _, below in tree for name in below]
    wrong = next((name for name in names if not name.strip() or SEPARATOR in name), None)
    if wrong is not None:
        raise ValueError(f"label {wrong!r} is empty or has {SEPARATOR!r} in it")
    for group in ([genre for genre, _ in tree], *(below for _, below in tree)):
        twice = next((name for name in group if group.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"label {twice!r} stands twice in one branch of the label tree")


SubgenreConfig.register_for_auto_class()

__all__ = ["MODALITIES", "SubgenreConfig"]
