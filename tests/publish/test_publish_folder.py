"""Pushing to a Hub over HTTP: one commit with the code that it names, safe files alone, plain about what lacks."""

import json

import pytest
import yaml
from huggingface_hub import CommitOperationAdd, parse_eval_result_entries

from descant.cli import main
from descant.hub_client import PublishError
from descant.publish.code import collect_code, collect_files
from descant.publish.facts import read_facts
from descant.publish.hub import check_push, publish_folder

REPO = "tester/m"


def test_everything_arrives_in_one_commit(local_hub, model_folder):
    url = publish_folder(model_folder, REPO, message="First")
    assert url.startswith(f"{local_hub.url}/{REPO}/commit/")
    assert local_hub.commits(REPO) == ["initial commit", "First"]
    pushed = local_hub.files(REPO)
    assert pushed["model.safetensors"] == (model_folder / "model.safetensors").read_bytes()
    assert b"license: cc-by-nc-4.0" in pushed["README.md"]


def test_pushing_the_same_again_makes_no_commit(local_hub, model_folder):
    publish_folder(model_folder, REPO)
    publish_folder(model_folder, REPO)
    assert len(local_hub.commits(REPO)) == 2


def test_files_of_an_earlier_model_go_and_those_of_others_stay(local_hub, model_folder):
    publish_folder(model_folder, REPO)
    extra = [CommitOperationAdd("model-00001-of-00002.safetensors", b"old"), CommitOperationAdd("notes.md", b"kept")]
    local_hub.api().create_commit(REPO, extra, commit_message="by hand")
    (model_folder / "scores.json").unlink()
    publish_folder(model_folder, REPO)
    names = local_hub.files(REPO).keys()
    assert "notes.md" in names and "model-00001-of-00002.safetensors" not in names and "scores.json" not in names


def test_scores_stand_in_the_hubs_own_form_and_go_with_the_model_that_had_them(local_hub, model_folder):
    mine, others = ".eval_results/descant-tester-music.yaml", ".eval_results/hle.yaml"
    scores = json.loads((model_folder / "scores.json").read_text())
    baseline = {**scores, "baseline": "majority", "bleu1": 0.1}
    elsewhere = {**scores, "dataset": "/home/someone/songs.csv"}
    (model_folder / "scores.json").write_text(json.dumps([scores, baseline, elsewhere]))
    publish_folder(model_folder, REPO)
    stated = parse_eval_result_entries(yaml.safe_load(local_hub.files(REPO)[mine]))
    assert [(one.dataset_id, one.task_id, one.value) for one in stated] == [
        ("tester/music", "short-test-bleu1", 0.2912), ("tester/music", "short-test-length_avg", 44.1),
    ]  # fmt: skip
    assert stated[0].notes == "lp_musiccaps protocol, 2,858 items, 95 % interval 0.2800 to 0.3000"
    assert [name for name in local_hub.files(REPO) if name.startswith(".eval_results/")] == [mine]
    local_hub.api().create_commit(REPO, [CommitOperationAdd(others, b"[]")], commit_message="by hand")
    (model_folder / "scores.json").unlink()
    publish_folder(model_folder, REPO)
    assert others in local_hub.files(REPO) and mine not in local_hub.files(REPO)


@pytest.mark.parametrize("kind", [429, 500, 503, "reset"])
@pytest.mark.parametrize("where", ["repos/create", "preupload", "objects/batch", "/_lfs/", "/commit/"])
def test_errors_that_pass_are_waited_out_and_leave_one_commit(local_hub, model_folder, waits, kind, where):
    local_hub.fail(kind, where=where, times=2)
    publish_folder(model_folder, REPO)
    assert len(local_hub.commits(REPO)) == 2
    assert not local_hub.faults[0].times


def test_commit_whose_answer_is_lost_is_not_made_twice(local_hub, model_folder, waits):
    local_hub.fail("lost", where="/commit/")
    publish_folder(model_folder, REPO)
    assert len(local_hub.commits(REPO)) == 2
    assert waits == [1]


def test_hub_that_stays_away_leaves_nothing_and_says_so(local_hub, model_folder, waits):
    local_hub.fail(503, where="/commit/", times=99)
    with pytest.raises(PublishError, match="m: http.* could not be reached in 7 attempts .*; nothing was published"):
        publish_folder(model_folder, REPO)
    assert local_hub.commits(REPO) == ["initial commit"]
    assert waits == [1, 2, 4, 8, 16, 32]


def test_missing_permission_is_one_sentence_before_anything_is_sent(local_hub, model_folder):
    with pytest.raises(PublishError, match="no permission to write to somebody/m .*: log in with a token") as said:
        publish_folder(model_folder, "somebody/m")
    assert "\n" not in str(said.value)
    assert ("model", "somebody/m") not in local_hub.store.repos


def test_repository_of_somebody_else_is_found_out_by_asking(local_hub):
    local_hub.store.create("model", "somebody/m", private=False)
    with pytest.raises(PublishError, match="no permission to write to somebody/m"):
        check_push("somebody/m")


def test_token_that_may_not_write_is_found_out(local_hub):
    with pytest.raises(PublishError, match="no permission"):
        check_push(REPO, api=local_hub.api(token="hf_wrong"))


def test_forbidden_upload_is_not_tried_again(local_hub, model_folder, waits):
    local_hub.fail(403, where="/commit/")
    with pytest.raises(PublishError, match="no permission"):
        publish_folder(model_folder, REPO)
    assert waits == [] and local_hub.commits(REPO) == ["initial commit"]


@pytest.mark.parametrize("name", ["a/b/c", "bad name/x", "-x/--"])
def test_impossible_name_is_refused(local_hub, name):
    with pytest.raises(PublishError, match="is no name of a repository"):
        check_push(name)


def test_freer_licence_reaches_no_hub(local_hub, model_folder):
    with pytest.raises(PublishError, match="cannot be published as mit"):
        publish_folder(model_folder, REPO, licence="mit")
    assert local_hub.requests == []


def test_adapter_whose_base_nobody_else_can_load_is_refused(local_hub, adapter_folder):
    path = adapter_folder / "adapter_config.json"  # as it stands after training in another folder than this one
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "runs/start"}))
    with pytest.raises(PublishError, match="needs runs/start, a model that .* has not") as said:
        publish_folder(adapter_folder, REPO)
    assert "\n" not in str(said.value) and ("model", REPO) not in local_hub.store.repos
    local_hub.api().create_repo("tester/base")
    publish_folder(adapter_folder, REPO, base_model="tester/base")
    assert b"tester/base" in local_hub.files(REPO)["adapter_config.json"]


@pytest.mark.parametrize("part", ["runs/encoder", "/home/someone/encoder"])
def test_parts_that_nobody_else_can_load_are_refused(local_hub, model_folder, part):
    config = json.loads((model_folder / "config.json").read_text())
    (model_folder / "config.json").write_text(json.dumps(config | {"audio_model_id": part}))
    with pytest.raises(PublishError, match=f"needs {part}, a model that .* has not"):
        publish_folder(model_folder, REPO, licence="cc-by-nc-4.0")


def test_a_part_that_comes_with_descant_needs_no_repository(local_hub, model_folder):
    config = json.loads((model_folder / "config.json").read_text())
    (model_folder / "config.json").write_text(json.dumps(config | {"audio_model_id": "musicnn"}))
    publish_folder(model_folder, REPO, licence="cc-by-nc-4.0")
    files = local_hub.files(REPO)
    assert json.loads(files["config.json"])["audio_model_id"] == "musicnn"
    assert "musicnn (isc)" in files["README.md"].decode()


def test_new_repository_is_private_when_asked(local_hub, model_folder):
    publish_folder(model_folder, "m", private=True)
    assert local_hub.store.repo("model", REPO).private


def test_offline_mode_is_one_sentence(local_hub, model_folder, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["push", str(model_folder), REPO]) == 2
    said = capsys.readouterr().err
    assert "descant push: tester/m: HF_HUB_OFFLINE forbids" in said and "nothing was published" in said


def test_pause_that_the_hub_asks_for_is_made(local_hub, model_folder, waits):
    local_hub.fail(429, where="/commit/", Retry_After="7")
    publish_folder(model_folder, REPO)
    assert waits == [7]


def test_circle_of_redirects_ends_at_once(local_hub, waits):
    local_hub.fail("loop", times=999)
    with pytest.raises(PublishError, match="redirects in a circle"):
        check_push(REPO)
    assert waits == []


def test_code_is_complete_and_flat(model_folder):
    names = set(collect_code(read_facts(model_folder)))
    parts = {"configuration", "modeling", "generation", "feature_extraction", "processing"}
    assert {f"{part}_lp_music_caps.py" for part in parts} <= names
    assert "pipeline_music.py" in names


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
