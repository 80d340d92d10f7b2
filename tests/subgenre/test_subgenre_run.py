"""A run from its command line to its folder: new classifiers, captioner, resuming, refusals, what is pushed."""

import json
import multiprocessing
import os
import shutil
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tiny import save_tiny_model
from tiny_classifier import build_classifier
from tiny_tracks import RECIPE, SMALL, make_job, write_tracks
from transformers import BertConfig, BertModel

from descant.models import box
from descant.models.subgenre import SubgenreConfig, SubgenreForSequenceClassification
from descant.program import BrokeOff
from descant.publish.facts import read_records
from descant.subgenre import apart, train_subgenres, training
from descant.subgenre.comparison import FUSION
from descant.subgenre.examples import SubgenreData
from descant.subgenre.labels import LabelTree, TrackCorpus
from descant.subgenre.run import read_job, run
from descant.subgenre.training import SubgenreOptions, fit_to_data, load_classifier
from descant.training.start import train_tokenizer


def test_the_demo_hears_with_the_box_and_names_it_so_that_other_machines_find_it(tmp_path):
    recipe = replace(RECIPE, demo={"captioner": "box"})
    settings = read_job(recipe, ["--demo", "--output_dir", str(tmp_path)]).settings
    assert settings.captioner == str(box.FOLDER)
    assert read_job(recipe, ["--demo", "--captioner", "none"]).settings.captioner is None
    data = SimpleNamespace(captioner=settings.captioner, questions=(None,), generation={})
    model = SimpleNamespace(config=SubgenreConfig(label_tree={"jazz": ["swing"]}), name_or_path="loaded")
    fit_to_data(model, [], data)
    assert model.config.captioner == model.config.find_captioner() == "box"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run with a captioner, and the settings that made it."""
    folder = tmp_path_factory.mktemp("subgenre")
    table, captioner = write_tracks(folder), save_tiny_model(folder / "captioner")
    (folder / "swing-0.wav").write_bytes(b"no sound")
    wanted = ["--dataset", str(table), "--captioner", str(captioner)]
    run(make_job(folder, *wanted))
    return folder / "run", wanted


def test_the_model_holds_thresholds_captioner_and_questions(finished):
    folder, (_, _, _, captioner) = finished
    model = SubgenreForSequenceClassification.from_pretrained(folder)
    assert model.config.genres == ["jazz", "pop"] and len(model.config.subgenres) == 4
    assert set(model.config.thresholds) == {*model.config.genres, *model.config.subgenres}
    assert model.config.captioner == captioner and model.config.questions == list(RECIPE.questions)
    assert list(folder.parent.rglob(f"{model.config.captioner_hash}/hearings.jsonl"))  # the cache knows it by the same
    assert model.config.captioner_generation == {"num_beams": 1}
    assert model.audio_projection is not None and model.config.audio_dim == 16


def test_the_table_has_every_system_and_the_scores_their_intervals(finished):
    folder, _ = finished
    report = (folder / "subgenres.md").read_text()
    systems = {line.split("|")[1].strip() for line in report.splitlines() if line.startswith("| ")}
    assert {"fusion", "lyrics", "captions", "audio", "TF-IDF of lyrics", "asking for the genre"} <= systems
    assert "lyrics + captions + audio" in systems and "calibration error" in report
    scores = json.loads((folder / "scores.json").read_text())
    (fusion,) = [one for one in scores if one["protocol"].endswith(FUSION)]
    assert fusion["n"] == 4 and fusion["split"] == "test"
    low, high = fusion["intervals"]["genre_accuracy"]
    assert low <= fusion["genre_accuracy"] <= high


def test_records_name_the_tracks_that_were_trained_on(finished):
    datasets, clips = read_records(str(finished[0]))
    assert datasets[-1]["id"] == "tracks" and datasets[-1]["split"] == "train"
    assert set(clips) == {f"{name}-{number}" for name in ("swing", "bebop", "disco", "ballad") for number in range(4)}


def test_a_second_run_trains_nothing_again(finished, monkeypatch):
    folder, wanted = finished
    before = (folder / "scores.json").read_text()

    def refuse(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr("descant.subgenre.training.build_trainer", refuse)
    run(make_job(folder.parent, *wanted))
    assert (folder / "scores.json").read_text() == before


def test_after_a_kill_a_run_ends_with_the_same_weights(tmp_path):
    wanted = ["--dataset", str(write_tracks(tmp_path, audio=False)), "--no_compare", "--eval_epochs", "2"]
    folder = run(make_job(tmp_path, *wanted))
    expected = load_file(folder / "model.safetensors")
    last = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))[-1]
    shutil.rmtree(last)
    (folder / ".finished").unlink()
    (folder / "model.safetensors").unlink()
    run(make_job(tmp_path, *wanted))
    again = load_file(folder / "model.safetensors")
    assert expected.keys() == again.keys() and all(torch.equal(expected[name], again[name]) for name in expected)


@pytest.fixture
def two_processes(monkeypatch):
    """Train what is compared with in two forks of this process: a fork server would import all anew.

    They begin before this process goes on: a lock that its main thread held while another one forks would never be
    free in the fork.
    """
    start = apart.TrainingApart.start

    def start_and_wait(self, *given):
        start(self, *given)
        if self._starter is not None:
            self._starter.join()

    monkeypatch.setattr(apart.TrainingApart, "start", start_and_wait)
    monkeypatch.setattr(apart, "start_fork_server", lambda *_: multiprocessing.get_context("fork"))
    monkeypatch.setattr(apart, "count_processes", lambda *_: 2)


def test_what_is_compared_with_trains_in_other_processes_and_alike(tmp_path, two_processes, monkeypatch):
    wanted = ["--dataset", str(write_tracks(tmp_path))]
    build, here, built = training.build_trainer, os.getpid(), []

    def build_and_note(*arguments):
        built.append(arguments)
        return build(*arguments)

    monkeypatch.setattr(training, "build_trainer", build_and_note)
    folder = run(make_job(tmp_path, *wanted))
    assert os.getpid() == here and len(built) == 1 and torch.get_num_threads() == 1
    assert {path.parent.name for path in folder.glob("compare/*/.finished")} == {"fusion-43", "lyrics-42", "lyrics-43"}
    expected = json.loads((folder / "scores.json").read_text())
    monkeypatch.setattr(apart, "count_processes", lambda *_: 1)
    (folder / "scores.json").unlink()
    run(make_job(tmp_path, *wanted, "--resume", "no"))
    assert len(built) == 5 and json.loads((folder / "scores.json").read_text()) == expected


def test_what_a_process_leaves_unfinished_is_trained_here_and_named(tmp_path, two_processes, monkeypatch, caplog):
    monkeypatch.setattr(apart, "train_share", lambda *_: os._exit(9))
    folder = run(make_job(tmp_path, "--dataset", str(write_tracks(tmp_path)), "--resume", "no"))
    assert (folder / "subgenres.md").is_file() and len(list(folder.glob("compare/*/.finished"))) == 3
    assert caplog.text.count("was not finished by its process, and is trained here") == 3


def test_a_run_that_breaks_off_ends_its_processes(tmp_path, two_processes, monkeypatch):
    monkeypatch.setattr(apart, "train_share", lambda *_: time.sleep(600))

    def fail(*_):
        raise BrokeOff("no more room")

    monkeypatch.setattr("descant.subgenre.run.train_classifier", fail)
    with pytest.raises(BrokeOff, match="no more room"):
        run(make_job(tmp_path, "--dataset", str(write_tracks(tmp_path))))
    assert not multiprocessing.active_children()


def test_processes_that_cannot_be_started_are_named_in_the_end(tmp_path, two_processes, monkeypatch, caplog):
    def fail(*_):
        raise EOFError("unexpected EOF")

    monkeypatch.setattr(apart, "start_fork_server", fail)
    training = apart.Training(SimpleNamespace(resume="no", output_dir=str(tmp_path)), ())
    with apart.TrainingApart() as processes:
        processes.start([training], SubgenreOptions(), SimpleNamespace(examples={"train": []}))
        processes._starter.join()
        assert not caplog.records, "an interrupted run says that it was, and nothing else"
        processes.wait(hide_bar=True)
    assert "trained one by one: no process can be started (unexpected EOF)" in caplog.text


@pytest.mark.parametrize(
    ("changes", "options", "tracks", "processes"),
    [
        ({}, {}, 1000, 2),
        ({}, {}, 10, 1),
        ({"world_size": 2}, {}, 1000, 1),
        ({"init_from": "classifier"}, {}, 1000, 1),
        ({}, {"text_encoder": "encoder"}, 1000, 1),
        ({"device": torch.device("cuda")}, {}, 1000, 1),
    ],
    ids=["many", "few", "launched", "loaded", "large", "gpu"],
)
def test_processes_are_for_many_small_classifiers_on_one_cpu(changes, options, tracks, processes, monkeypatch):
    settings = {"device": torch.device("cpu"), "world_size": 1, "init_from": None, "num_train_epochs": 20, **changes}
    trainings = [SimpleNamespace(settings=SimpleNamespace(**settings))] * 3
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert apart.count_processes(trainings, SubgenreOptions(**options), tracks) == processes
    assert apart.count_processes([], SubgenreOptions(), tracks) == 1


@pytest.mark.parametrize("fusion", ["late", "cross_attention"])
def test_lora_is_merged_into_the_saved_model(tmp_path, fusion):
    wanted = ["--dataset", str(write_tracks(tmp_path, audio=False)), "--no_compare", "--lora", "--fusion", fusion]
    folder = run(make_job(tmp_path, *wanted))
    model = SubgenreForSequenceClassification.from_pretrained(folder)
    assert model.config.thresholds and not (folder / "adapter_config.json").exists()


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (["--captioner", "nowhere/captioner"], "nowhere/captioner"),
        (["--init_from", "nowhere/classifier"], "--init_from nowhere/classifier: cannot be loaded"),
        (["--text_encoder", "nowhere/encoder"], "--text_encoder nowhere/encoder: cannot be loaded"),
        (["--label_tree", "nowhere.json"], "label tree nowhere.json: cannot be read"),
    ],
    ids=["captioner", "classifier", "encoder", "tree"],
)
def test_what_is_not_there_is_refused_in_a_sentence(tmp_path, monkeypatch, caplog, wanted, reason):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    table = write_tracks(tmp_path, audio=False)
    where = ["--dataset", str(table), "--output_dir", str(tmp_path / "run"), "--use_cpu", "True"]
    with pytest.raises(SystemExit) as ended:
        train_subgenres(RECIPE, [*where, *wanted])
    assert ended.value.code == 2 and reason in caplog.text


PUSH = ("--push_to_hub", "--hub_model_id", "tester/subgenres")


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["--push_to_hub"], "--push_to_hub needs --hub_model_id"),
        (["--push_to_hub", "--demo", "--captioner", "box"], "cannot load box from this machine"),
        ([*PUSH, "--captioner", "."], "--push_to_hub needs --captioner HUB_ID"),
        (PUSH, "licence of tracks"),
    ],
    ids=["name", "demo", "captioner", "licence"],
)
def test_what_cannot_be_pushed_is_refused_before_training(tmp_path, caplog, argv, reason):
    source = [] if "--demo" in argv else ["--dataset", str(write_tracks(tmp_path, audio=False))]
    with pytest.raises(SystemExit) as ended:
        train_subgenres(RECIPE, [*source, "--output_dir", str(tmp_path / "run"), "--use_cpu", "True", *argv])
    assert ended.value.code == 2 and reason in caplog.text
    assert not list((tmp_path / "run").glob("*.json"))


def test_a_classifier_is_pushed_with_the_records_of_its_captioner(tmp_path, local_hub):
    local_hub.api().create_repo("tester/captioner")
    local_hub.api().upload_folder(repo_id="tester/captioner", folder_path=save_tiny_model(tmp_path / "captioner"))
    wanted = ["--dataset", str(write_tracks(tmp_path)), "--captioner", "tester/captioner", "--no_compare", "--lora"]
    wanted += [*SMALL, "--output_dir", str(tmp_path / "run"), "--features", str(tmp_path / "features")]
    train_subgenres(RECIPE, [*wanted, "--use_cpu", "True", *PUSH, "--license", "apache-2.0"])
    files = local_hub.files("tester/subgenres", "model")
    assert {"model.safetensors", "README.md", "modeling_subgenre.py"} <= set(files)
    assert b"tester/captioner" in files["README.md"]


def test_a_folder_that_holds_another_run_is_refused(finished, caplog):
    folder, wanted = finished
    with pytest.raises(ValueError, match="holds a run with learning_rate"):
        run(make_job(folder.parent, *wanted, "--learning_rate", "0.5"))


def test_other_lyrics_are_refused_where_a_run_has_begun(tmp_path):
    table = write_tracks(tmp_path, audio=False)
    wanted = ["--dataset", str(table), "--no_compare"]
    run(make_job(tmp_path, *wanted))
    table.write_text(table.read_text().replace("smoky midnight taxi swing 0", "sunny morning train swing 0"))
    with pytest.raises(ValueError, match="training_data = '16 tracks, hash .*choose another --output_dir"):
        run(make_job(tmp_path, *wanted))


def test_less_than_an_epoch_is_refused(tmp_path):
    table = write_tracks(tmp_path, audio=False)
    with pytest.raises(ValueError, match=r"--num_train_epochs 0.4 is too few to train subgenre: give at least 1"):
        run(make_job(tmp_path, "--dataset", str(table), "--num_train_epochs", "0.4"))


TREE = LabelTree({"pop": ("disco",), "jazz": ("swing", "bebop")})
TEXTS = ["love in the rain", "a slow song"]


def test_a_new_one_is_the_same_for_the_same_seed_and_keeps_the_order_of_the_labels(tmp_path):
    options = make_job(tmp_path, "--dataset", "demo").options
    (first, processor), (second, _) = (load_classifier(options, TREE, TEXTS, 4, seed=1) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))
    assert [*first.config.genres, *first.config.subgenres] == [*TREE.genres, *TREE.subgenres]
    assert (processor.window_tokens, processor.overlap_tokens, processor.audio_dim) == (32, 4, 4)


def test_any_encoder_keeps_its_weights_and_its_unused_head_is_not_trained(tmp_path):
    tokenizer = train_tokenizer(TEXTS)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    encoder = BertModel(BertConfig(vocab_size=len(tokenizer), **sizes))
    encoder.save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    options = SubgenreOptions(text_encoder=str(tmp_path / "encoder"))
    model, _ = load_classifier(options, TREE, TEXTS, 4, seed=0)
    loaded = model.text_encoder.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in encoder.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.text_encoder.pooler.parameters())


def test_a_classifier_with_other_labels_is_refused(tmp_path):
    model, processor = build_classifier("late")
    model.save_pretrained(tmp_path / "classifier")
    processor.save_pretrained(tmp_path / "classifier")
    with pytest.raises(ValueError, match="knows 5 labels, others than those of this tree"):
        load_classifier(SubgenreOptions(), TREE, TEXTS, 4, seed=0, init_from=str(tmp_path / "classifier"))


def test_a_classifier_trained_with_another_captioner_is_refused(tmp_path):
    captioner = str(save_tiny_model(tmp_path / "captioner"))
    data = SubgenreData(TrackCorpus([], TREE, "x", "cc0-1.0", "1"), captioner, (None,), {}, {}, {}, {})
    model, _ = build_classifier("cross_attention")
    fit_to_data(model, [], data)
    fit_to_data(model, [], data)  # the same captioner
    model.config.captioner_hash = "0" * 16
    with pytest.raises(ValueError, match="in place of 0{16}.: pass the same --captioner, or start a new model"):
        fit_to_data(model, [], data)
