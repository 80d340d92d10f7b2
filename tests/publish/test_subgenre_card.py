"""The card of a subgenre classifier, and that it is pushed only with a captioner that others can have."""

import json

import pytest
from hub import LocalHub
from huggingface_hub import ModelCard

from descant.hub_client import PublishError
from descant.models.subgenre import SubgenreConfig, SubgenreForSequenceClassification, SubgenreProcessor
from descant.publish.card import write_card
from descant.publish.hub import publish_folder
from descant.training.start import train_tokenizer

TREE = {"jazz": ["swing"], "pop": ["disco"]}
DATA = {"id": "tester/tracks", "revision": "1", "configs": [], "split": "train", "licence": "cc0-1.0", "clips": 9}
SCORES = {
    "protocol": "subgenres, fusion", "dataset": "tester/tracks", "config": None, "split": "test", "n": 40,
    "genre_accuracy": 0.625, "intervals": {"genre_accuracy": [0.5, 0.75]}, "genre_calibration_error": 0.053,
}  # fmt: skip
LYRICS = {**SCORES, "protocol": "subgenres, lyrics", "genre_accuracy": 0.25, "baseline": True}
del LYRICS["genre_calibration_error"]


@pytest.fixture
def classifier(tmp_path):
    """A classifier's folder with its records, and a function that names its captioner."""
    tokenizer = train_tokenizer(["love in the rain"], 300)
    encoder = {"model_type": "distilbert", "vocab_size": len(tokenizer), "dim": 8, "n_layers": 1, "n_heads": 2}
    config = SubgenreConfig(text_config={**encoder, "hidden_dim": 8}, label_tree=TREE, audio_dim=4, hidden_size=8)
    config.captioner, config.questions = "tester/captioner", ["What is the genre?"]
    folder = tmp_path / "classifier"
    SubgenreForSequenceClassification(config).save_pretrained(folder)
    SubgenreProcessor(tokenizer, 16, 2, 4).save_pretrained(folder)
    for name, value in {"training_data": [DATA], "scores": [SCORES, LYRICS]}.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def test_the_card_states_labels_captioner_and_scores_and_claims_its_own_only(classifier):
    card = ModelCard.load(write_card(classifier, repo_id="tester/subgenres"))
    assert card.data.pipeline_tag == "audio-classification" and card.data.license == "apache-2.0"
    assert [round(one.metric_value, 3) for one in card.data.eval_results] == [0.625]
    assert "- jazz: swing" in card.text and "tester/captioner" in card.text and "What is the genre?" in card.text
    assert "0.625 [0.500, 0.750]" in card.text and "0.250 [0.500, 0.750]" in card.text
    assert card.text.count("likeliest genre is on average 0.053 away") == 1
    assert "descant classify tester/subgenres" in card.text and "the captioner listens first" in card.text


def test_a_captioner_on_this_machine_is_refused_and_one_on_the_hub_goes_along(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    config = json.loads((classifier / "config.json").read_text())
    with LocalHub() as hub:
        (classifier / "config.json").write_text(json.dumps({**config, "captioner": str(tmp_path)}))
        with pytest.raises(PublishError, match="push that first"):
            publish_folder(classifier, "tester/subgenres", api=hub.api())
        (classifier / "config.json").write_text(json.dumps(config))
        with pytest.raises(PublishError, match="needs tester/captioner, a model that"):
            publish_folder(classifier, "tester/subgenres", api=hub.api())
        hub.api().create_repo("tester/captioner")
        publish_folder(classifier, "tester/subgenres", api=hub.api())
        files = hub.files("tester/subgenres")
    code = {"configuration_subgenre.py", "processing_subgenre.py", "modeling_subgenre.py", "fusion_subgenre.py"}
    assert code <= files.keys() and "model.safetensors" in files
    assert b"apache-2.0" in files["README.md"]
