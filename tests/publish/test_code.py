"""A repository carries the code that its configuration names, and only files that are safe to publish."""

import json

import pytest

from descant.hub_client import PublishError
from descant.publish.code import collect_code, collect_files
from descant.publish.facts import read_facts


def test_code_is_complete_and_flat(model_folder):
    names = set(collect_code(read_facts(model_folder)))
    parts = {"configuration", "modeling", "generation", "feature_extraction", "processing"}
    assert {f"{part}_lp_music_caps.py" for part in parts} <= names
    assert "pipeline_music_question_answering.py" in names


def test_code_missing_in_the_folder_comes_from_descant(model_folder):
    for path in model_folder.glob("*.py"):
        path.unlink()
    assert "modeling_lp_music_caps.py" in collect_code(read_facts(model_folder))


def test_folders_own_code_goes_before_descants(model_folder):
    (model_folder / "modeling_lp_music_caps.py").write_text("# as it was when the weights were saved\n")
    assert collect_code(read_facts(model_folder))["modeling_lp_music_caps.py"].parent == model_folder


def test_code_that_is_nowhere_is_named(model_folder):
    config = json.loads((model_folder / "config.json").read_text())
    config["auto_map"]["AutoConfig"] = "configuration_lost.LostConfig"
    (model_folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(PublishError, match="names the code configuration_lost.py"):
        collect_code(read_facts(model_folder))


def test_pickles_checkpoints_and_the_runs_own_file_stay_at_home(model_folder):
    names = collect_files(read_facts(model_folder), "card", "tester/model").keys()
    assert {"model.safetensors", "config.json", "generation_config.json", "training_data.json", "README.md"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt")) or "/" in name or name == "run.json"]


def test_a_folder_of_data_goes_by_its_name(model_folder):
    entries = [{"id": "/home/someone/music", "licence": "mit"}, {"id": "tester/music", "licence": "mit"}]
    (model_folder / "training_data.json").write_text(json.dumps(entries))
    record = collect_files(read_facts(model_folder), "card", "tester/model")["training_data.json"]
    assert [entry["id"] for entry in json.loads(record)] == ["music", "tester/music"]


def test_adapter_of_a_base_on_this_machine_is_refused_until_the_base_has_an_id(adapter_folder):
    with pytest.raises(PublishError, match="publish that first and give its id with --base_model"):
        collect_files(read_facts(adapter_folder), "card", "tester/model")
    files = collect_files(read_facts(adapter_folder, "tester/base"), "card", "tester/model")
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "tester/base"
