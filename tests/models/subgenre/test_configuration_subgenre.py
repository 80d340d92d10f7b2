"""Tests of the label order, the checks and the saved form of a subgenre configuration."""

from pathlib import Path

import pytest
from tiny_subgenre import TREE
from transformers import AutoConfig, BertConfig

from descant.models.subgenre import SubgenreConfig


def test_genres_come_first_and_a_subgenre_is_known_by_its_full_name() -> None:
    config = SubgenreConfig(label_tree=TREE)
    names = ["rock---punk", "rock---blues", "jazz---bebop", "jazz---swing", "jazz---blues"]
    assert list(config.id2label.values()) == ["rock", "jazz", "ambient", *names]
    assert config.label2id["jazz---blues"] == 7
    assert config.parents == [0, 0, 1, 1, 1]


def test_labels_keep_their_order_when_saved(tmp_path: Path) -> None:
    tree = {"zydeco": ["z", "a"], "ambient": [], "metal": [f"m{number}" for number in range(12)]}
    thresholds = {"zydeco---z": 0.2, "ambient": 0.7}
    scales = {"lyrics+audio": 0.5}
    text_config = BertConfig(hidden_size=24)
    config = SubgenreConfig(label_tree=tree, thresholds=thresholds, threshold_scales=scales, text_config=text_config)
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is SubgenreConfig
    assert (again.id2label, again.label_tree) == (config.id2label, config.label_tree)
    named = dict(zip(again.id2label.values(), again.list_thresholds(), strict=True))
    assert (named["ambient"], named["zydeco"]) == (0.7, 0.5)
    halved = dict(zip(again.id2label.values(), again.list_thresholds({"audio", "lyrics"}), strict=True))
    assert (halved["ambient"], halved["zydeco"]) == (0.35, 0.25)
    assert (again.text_config.model_type, again.text_config.hidden_size) == ("bert", 24)


def test_pipelines_are_named_in_the_saved_form_only() -> None:
    config = SubgenreConfig(label_tree=TREE)
    assert "music-subgenre-classification" in config.to_dict()["custom_pipelines"]
    assert "custom_pipelines" not in vars(config)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"fusion": "early"}, "fusion 'early' is none of late, cross_attention"),
        ({"text_config": {"model_type": "hummer"}}, "model_type 'hummer', which transformers does not know"),
        ({"text_config": {"vocab_size": 3}}, "model_type None"),
        ({"label_tree": {"rock": ["punk", "punk"]}}, "'punk' stands twice"),
        ({"label_tree": [["rock", []], ["rock", ["punk"]]]}, "'rock' stands twice"),
        ({"label_tree": {"rock": ["post---punk"]}}, "'post---punk' is empty or has '---' in it"),
        ({"label_tree": {"rock": [" "]}}, "is empty"),
        ({"threshold_scales": {"audio+lyrics": 1}}, "threshold_scales has 'audio\\+lyrics': name modalities as in"),
        ({"label_tree": TREE, "thresholds": {"blues": 0.2}}, "threshold for 'blues', which is not in the label tree"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        SubgenreConfig(**settings)
