"""Cards state the folder's facts, also a classifier's, in the Hub's format, and nothing of this machine."""

import json
import logging
import threading

import pytest
from hub import LocalHub
from huggingface_hub import ModelCard
from tiny import save_tiny_decider, save_tiny_model

from descant.hub_client import PublishError
from descant.models.subgenre import SubgenreConfig, SubgenreForSequenceClassification, SubgenreProcessor
from descant.publish.card import compose_card, describe_hardware, update_card, write_card
from descant.publish.code import collect_files
from descant.publish.facts import read_facts
from descant.publish.hub import publish_folder
from descant.training.start import train_tokenizer


def card_of(folder, **options):
    return ModelCard(
        compose_card(read_facts(folder, options.pop("base_model", None)), "tester/m", options.get("licence"))
    )


def test_metadata_are_what_the_hub_reads(model_folder):
    data = card_of(model_folder, base_model="tester/base").data
    assert (data.license, data.library_name, data.pipeline_tag) == (
        "cc-by-nc-4.0",
        "transformers",
        "audio-text-to-text",
    )
    assert (data.base_model, data.datasets) == ("tester/base", ["tester/music"])
    results = {result.metric_type: result for result in data.eval_results}
    assert results["bleu1"].metric_value == 0.2912
    assert results["bleu1"].metric_name == "bleu1 (lp_musiccaps protocol)"
    assert results["length_avg"].dataset_split == "test"


def test_text_states_data_recipe_scores_and_lengths(model_folder):
    write_card(model_folder, hardware="2 × NVIDIA H200", hours=1.5)
    text = (model_folder / "README.md").read_text()
    for fact in (
        "| tester/music | short | abc | 2,663 | cc-by-nc-4.0 |",
        "| Recipe | mi_all |",
        "all (100 of the recipe's epochs)",
        "| `learning_rate` | 0.0001 |",
        "| Hardware | 2 × NVIDIA H200 |",
        "| Hours | 1.50 |",
        "**lp_musiccaps** protocol on tester/music, short, test split, 2,858 items",
        "| bleu1 | 0.2912 | 0.2800 – 0.3000 |",
        "| length_avg | 44.1000 |",
        "may not be used commercially",
    ):
        assert fact in text


def test_it_says_how_many_files_of_code_the_repository_carries(model_folder, adapter_folder):
    facts = read_facts(model_folder)
    card = compose_card(facts, "tester/m", None)
    carried = [name for name in collect_files(facts, card, "tester/m") if name.endswith(".py")]
    assert len(carried) > 5 and f"runs the model's code, {len(carried)} Python files in this repository" in card
    adapter = compose_card(read_facts(adapter_folder, "tester/base"), "tester/a", None)
    assert "Python files in this repository and those in the base model's: read" in " ".join(adapter.split())


def test_tables_are_markdown_tables(model_folder):
    write_card(model_folder, hardware="CPU")
    lines = (model_folder / "README.md").read_text().splitlines()
    for number, line in enumerate(lines):
        if line.startswith("|--"):
            assert lines[number - 1].startswith("|") and lines[number - 2] == ""
            assert lines[number + 1].count("|") == line.count("|")


def test_folders_of_this_machine_are_not_published(model_folder):
    write_card(model_folder, base_model=str(model_folder))
    for name in ("README.md", "training_facts.json"):
        text = (model_folder / name).read_text()
        assert "/home/someone" not in text and str(model_folder.parent) not in text
    assert "| Started from | mi_all |" in (model_folder / "README.md").read_text()


def test_a_path_that_looks_like_an_id_elsewhere_is_not_published(model_folder, tmp_path, monkeypatch):
    (tmp_path / "runs" / "start").mkdir(parents=True)
    (model_folder / "run.json").write_text(json.dumps({"recipe": "mi_all", "init_from": "runs/start"}))
    monkeypatch.chdir(tmp_path)
    write_card(model_folder, hardware="CPU", base_model="runs/start")
    monkeypatch.chdir(model_folder)
    text = write_card(model_folder).read_text() + (model_folder / "training_facts.json").read_text()
    assert "runs/start" not in text and "| `init_from` | start |" in text


def test_pushing_renders_again_what_training_told_without_the_runs_own_file(model_folder):
    write_card(model_folder, hardware="2 × NVIDIA H200")
    (model_folder / "run.json").unlink()
    text = card_of(model_folder).content
    assert "| Hardware | 2 × NVIDIA H200 |" in text and "| Recipe | mi_all |" in text
    assert 'from_pretrained("tester/m", trust_remote_code=True)' in text


def test_writing_the_card_again_keeps_what_was_told_before(model_folder):
    (model_folder / "training_data.json").write_text('[{"id": "own", "licence": "unknown", "clips": 3}]')
    write_card(model_folder, hardware="2 × NVIDIA H200", licence="mit")
    facts = json.loads((model_folder / "training_facts.json").read_text())
    (model_folder / "training_facts.json").write_text(json.dumps(facts | {"versions": {"torch": "1.0"}}))
    text = write_card(model_folder).read_text()
    assert "2 × NVIDIA H200" in text and "license: mit" in text and "torch 1.0" in text


def test_card_leaves_an_open_licence_open(model_folder):
    (model_folder / "training_data.json").write_text('[{"id": "own", "licence": "unknown", "clips": 3}]')
    assert "license: unknown" in write_card(model_folder).read_text()
    with pytest.raises(PublishError, match="nothing says the licence of own"):
        card_of(model_folder)


def test_a_model_without_records_is_named_and_is_no_dataset(model_folder):
    base = {"id": "tester/base", "kind": "model", "licence": "mit", "clips": "not recorded"}
    (model_folder / "training_data.json").write_text(json.dumps([base]))
    card = card_of(model_folder)
    assert "| tester/base, a model without records |  |  | not recorded | mit |" in card.content
    assert card.data.datasets is None


def test_card_of_ones_own_is_kept_and_completed(model_folder):
    (model_folder / "README.md").write_text("---\nlanguage: fr\ntags: [mine]\n---\n# My own words\n")
    card = card_of(model_folder)
    assert "# My own words" in card.content and "## Use it" not in card.content
    assert (card.data.language, card.data.license, card.data.tags) == ("fr", "cc-by-nc-4.0", ["mine"])
    assert card.data.pipeline_tag == "audio-text-to-text"


def test_freer_licence_in_a_card_of_ones_own_is_refused(model_folder):
    (model_folder / "README.md").write_text("---\nlicense: mit\n---\n# My own words\n")
    with pytest.raises(PublishError, match="cannot be published as mit"):
        card_of(model_folder)


@pytest.mark.parametrize(
    "stub",
    [
        "# Model Card for Model ID",
        "This model card has been generated automatically according to the information the Trainer had access to.",
    ],
)
def test_cards_that_libraries_leave_are_replaced(model_folder, stub):
    (model_folder / "README.md").write_text(f"---\nlicense: mit\n---\n{stub}\n")
    assert "## Use it" in card_of(model_folder).content


def test_listening_scores_appear_with_the_controls(model_folder):
    interval = {"value": 71.23, "low": 70.0, "high": 72.0}
    report = {"own": interval, "deaf": {**interval, "value": 40.0}, "other": {**interval, "value": 38.0}, "n": 900}
    (model_folder / "listening.json").write_text(json.dumps({"test": report}))
    card = card_of(model_folder)
    assert "| another clip | 38.0 | 70.0 – 72.0 |" in card.content
    assert "exact answers in percent, another clip's audio" in [r.metric_name for r in card.data.eval_results]


def test_card_without_records_says_that_there_are_none(model_folder):
    for name in ("training_data", "scores", "run"):
        (model_folder / f"{name}.json").unlink()
    path = write_card(model_folder)
    assert "not recorded here" in path.read_text() and "None recorded" in path.read_text()
    with pytest.raises(PublishError, match="nothing says what the model was trained on"):
        card_of(model_folder)


def test_folder_without_weights_or_processor_is_refused(model_folder, tmp_path):
    with pytest.raises(PublishError, match=r"holds no model.safetensors"):
        read_facts(tmp_path)
    (model_folder / "processor_config.json").unlink()
    with pytest.raises(PublishError, match=r"holds no processor_config.json"):
        read_facts(model_folder)


def test_broken_record_is_named(model_folder):
    (model_folder / "scores.json").write_text("{")
    with pytest.raises(PublishError, match=r"scores.json is not JSON"):
        read_facts(model_folder)


def test_hardware_is_described_in_words():
    assert describe_hardware(1, "cpu").startswith("1 process on ")
    assert describe_hardware(2, "cpu").startswith("2 processes on ")


RESULT = {
    "model": "m", "dataset": "own", "config": "all", "split": "test", "protocol": "musilingo", "n": 3, "skipped": 0,
    "bleu": 0.5, "intervals": {"bleu": (0.4, 0.6)}, "controls": {}, "verdicts": [], "max_clips": 0,
    "leak": {"checked": True, "clips": 0}, "made_with": {},
}  # fmt: skip


@pytest.fixture
def model(tmp_path):
    return save_tiny_model(tmp_path / "model")


def test_the_card_states_the_result(model) -> None:
    update_card(model, RESULT | {"model": str(model)})
    (stated,) = ModelCard.load(model / "README.md").data.eval_results
    assert (stated.metric_value, stated.dataset_split) == (0.5, "test")
    assert str(model.parent) not in (model / "scores.json").read_text()


def test_a_second_result_on_the_same_data_replaces_the_first(model) -> None:
    for value in (0.5, 0.6):
        update_card(model, RESULT | {"bleu": value})
    update_card(model, RESULT | {"split": "test_grooves"})
    scores = json.loads((model / "scores.json").read_text())
    assert [(one["split"], one["bleu"]) for one in scores] == [("test", 0.6), ("test_grooves", 0.5)]


def test_a_card_of_the_users_own_stays(model, caplog) -> None:
    (model / "README.md").write_text("# Mine\n")
    with caplog.at_level(logging.WARNING):
        update_card(model, RESULT)
    assert (model / "README.md").read_text() == "# Mine\n"
    assert "is your own text" in caplog.text and (model / "scores.json").exists()


@pytest.mark.parametrize(
    "change",
    [{"leak": {"checked": True, "clips": 1}}, {"max_clips": 5}, {"split": "train"}],
    ids=lambda c: next(iter(c)),
)
def test_leaked_partial_and_training_results_are_not_stated(model, change) -> None:
    update_card(model, RESULT | change)
    assert not (model / "scores.json").exists() and not (model / "README.md").exists()


def test_results_of_two_evaluations_that_end_together_both_stay(model) -> None:
    splits = [f"test_{number}" for number in range(4)]
    threads = [threading.Thread(target=update_card, args=(model, RESULT | {"split": split})) for split in splits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one["split"] for one in json.loads((model / "scores.json").read_text())) == splits


def test_typed_answers_are_stated_with_their_thresholds_and_scores(tmp_path):
    folder = save_tiny_decider(tmp_path / "decider", threshold=0.62)
    (folder / "training_data.json").write_text(json.dumps([{"id": "tester/music", "licence": "cc0-1.0", "clips": 1}]))
    scores = {"n": 120, "accuracy": 0.64, "ece": 0.032, "brier": 0.45, "accuracy_at_60": 0.807, "risk_area": 0.2}
    (folder / "scores.json").write_text(json.dumps([{
        "protocol": "musilingo", "dataset": "tester/music", "split": "test", "n": 120, "intervals": {},
        "decisions": {"all": scores, "by_type": {}},
    }]))  # fmt: skip
    text = write_card(folder).read_text()
    assert "| genre | 3 | 0.62 | 1.00 | 10 decisions |" in text
    assert "0.640 of 120 decisions right, expected calibration error 0.032" in text
    (folder / "decision.json").unlink()
    assert "## Typed answers" not in write_card(folder).read_text()


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
