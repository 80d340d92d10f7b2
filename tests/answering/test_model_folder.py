"""Model folders: every way in which one can be wrong is told in a sentence."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
from hub import LocalHub
from safetensors.torch import load_file, save_file
from tiny import save_tiny_adapter, save_tiny_model, write_song
from tiny_mert_lm import save_tiny_mert_lm
from transformers import AutoModelForMultimodalLM, AutoProcessor, BartConfig

from descant.answering.listener import Listener
from descant.answering.model_folder import ModelFolderError, find_model, fingerprint_model, load_model
from descant.data.splits import ClipHashes
from descant.models import box, musicnn
from descant.publish.facts import write_records


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "model")


def reason(source: Path | str) -> str:
    with pytest.raises(ModelFolderError) as raised:
        load_model(find_model(str(source)))
    assert str(source) in str(raised.value)
    return str(raised.value)


def test_a_saved_model_loads_in_eval_mode_with_its_processor(folder: Path) -> None:
    model, processor = load_model(find_model(str(folder)))
    assert not model.training and model.config.model_type == "lp_music_caps"
    assert processor(text=["What is the genre?"])["prompt_input_ids"]


def test_what_is_no_model_folder_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pth").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    assert "no such folder" in reason(tmp_path / "absent" / "folder")
    assert "descant convert" in reason(tmp_path / "checkpoint.pth")
    assert "no config.json" in reason(tmp_path / "empty")
    (folder / "config.json").write_text("[1]")
    assert "config.json holds list in place of a JSON object" in reason(folder)
    (folder / "config.json").write_text('{"model_type": 5}')
    assert "names no model type" in reason(folder)


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    BartConfig().save_pretrained(tmp_path)
    assert "is a bart model" in reason(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "processor_config.json", "tokenizer.json"])
def test_a_missing_part_is_said(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert "cannot be loaded" in reason(folder)


def test_weights_that_may_not_be_read_are_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *arguments: Any, **named: Any) -> IO[Any]:
        if path.suffix == ".safetensors":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return open(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    assert reason(folder).endswith("cannot be loaded: model.safetensors: Permission denied")


def test_damaged_weights_are_said(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "cannot be loaded" in reason(folder)


def test_missing_weights_are_not_replaced_by_random_ones(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["audio_encoder.conv1.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "audio_encoder.conv1.weight" in reason(folder)


def test_weights_of_another_size_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "d_model": 32}))
    assert "cannot be loaded" in reason(folder)


def test_a_folder_that_is_no_model_does_not_hide_the_one_in_the_box(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "box" / "songs").mkdir(parents=True)
    assert find_model("box") == box.FOLDER
    (tmp_path / "box" / "config.json").write_text("{}")
    with pytest.raises(ModelFolderError, match="names no model type"):
        find_model("box")


def test_what_is_neither_here_nor_on_the_hub_is_said(local_hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no such folder here; nobody/no-such-model is not on http" in reason("nobody/no-such-model")
    assert "no such folder here; 'no such model' is no name of a repository" in reason("no such model")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids to ask" in reason("nobody/no-such-model")


def test_a_model_that_is_on_this_machine_from_the_hub_is_found(
    folder: Path, local_hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_hub.api().create_repo("tester/model")
    local_hub.api().upload_folder(repo_id="tester/model", folder_path=folder)
    fetched = find_model("tester/model")
    assert (fetched / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert find_model("tester/model") == fetched


@pytest.mark.parametrize(
    "name",
    ["adapter_config.json", "chat_template.jinja", "decision.json", "generation_config.json",
     "preprocessor_config.json", "processor_config.json", "special_tokens_map.json", "tokenizer.json",
     "tokenizer_config.json", "vocab.json"],
)  # fmt: skip
def test_a_fingerprint_follows_every_file_that_decides_answers(folder: Path, name: str) -> None:
    before = fingerprint_model(folder)
    (folder / name).write_text('{"r": 2}')
    assert fingerprint_model(folder) != before


@pytest.mark.parametrize(
    ("file", "key"), [("config.json", "audio_model_id"), ("adapter_config.json", "base_model_name_or_path")]
)
def test_a_fingerprint_follows_the_folders_that_a_model_is_loaded_onto(
    folder: Path, tmp_path: Path, file: str, key: str
) -> None:
    base = save_tiny_model(tmp_path / "base", 0)
    config = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps(config | {key: str(base)}))
    before = fingerprint_model(folder)
    (base / "README.md").write_text("A model.")
    assert fingerprint_model(folder) == before
    save_tiny_model(base, 1)
    assert fingerprint_model(folder) != before


def test_a_folder_here_is_not_taken_for_the_encoder_of_its_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((folder / "config.json").read_text())
    plain = fingerprint_model(folder)
    (folder / "config.json").write_text(json.dumps(config | {"audio_model_id": "musicnn"}))
    monkeypatch.chdir(tmp_path)
    before = fingerprint_model(folder)
    (tmp_path / "musicnn").mkdir()
    (tmp_path / "musicnn" / "config.json").write_text("{}")
    assert fingerprint_model(folder) == before != plain
    monkeypatch.setattr(musicnn, "PRETRAINED", tmp_path / "musicnn")
    assert fingerprint_model(folder) != before, "the package's encoder decides answers"


def test_a_model_that_names_itself_or_the_hub_has_a_fingerprint(folder: Path) -> None:
    for base in (str(folder), "someone/model"):
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
        assert len(fingerprint_model(folder)) == 16


def test_the_records_of_training_come_along_from_the_hub(local_hub, folder: Path, tmp_path: Path) -> None:
    write_records(folder, [], {"clip": ClipHashes("1")}, None)
    local_hub.api().create_repo("tester/model")
    local_hub.api().upload_folder(repo_id="tester/model", folder_path=folder)
    code = "from descant.answering.model_folder import find_model; print(find_model('tester/model'))"
    done = local_hub.run(tmp_path / "home", "-c", code)
    assert (Path(done.stdout.strip()) / "training_clips.txt.gz").is_file(), done.stderr


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("config.json", DEEP, "config.json cannot be read as JSON (it is nested too deeply)"),
        ("config.json", '{"model_type": "lp_music_caps", "d_model": "x"}', "cannot be loaded: "),
        ("config.json", '{"model_type": "lp_music_caps", "d_model": 1000000000}', "d_model = 1000000000 is no size"),
        ("config.json", b"\xff\xfe{", "config.json cannot be read as JSON"),
        ("processor_config.json", '{"feature_extractor": {"n_fft": 1000000000}}', "n_fft = 1000000000 is no size"),
        ("processor_config.json", DEEP, "processor_config.json cannot be read as JSON"),
        ("tokenizer.json", '{"version": "1.0", "trunc', "tokenizer.json cannot be read as JSON"),
        ("tokenizer.json", "", "tokenizer.json cannot be read as JSON"),
        ("tokenizer.json", "[]", "cannot be loaded: "),
        ("tokenizer_config.json", DEEP, "tokenizer_config.json cannot be read as JSON"),
        ("generation_config.json", "[]", "generation_config.json holds list in place of a JSON object"),
    ],
)
def test_settings_of_any_shape_are_refused_by_the_name_of_the_file(
    folder: Path, name: str, text: str | bytes, said: str
) -> None:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert said in reason(folder) and len(reason(folder)) < 600 and "\n" not in reason(folder)


def test_pickled_weights_are_never_read(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    assert "its weights are a pickle (pytorch_model.bin)" in reason(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_by_name(folder: Path, value: float) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["audio_encoder.conv1.weight"].view(-1)[3] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "audio_encoder.conv1.weight hold NaN or infinite numbers" in reason(folder)


def test_pipes_and_devices_are_never_read(folder: Path) -> None:
    (folder / "vocab.txt").symlink_to("/dev/zero")
    assert "vocab.txt is no regular file" in reason(folder)
    (folder / "vocab.txt").unlink()
    (folder / "tokenizer_config.json").unlink()
    os.mkfifo(folder / "tokenizer_config.json")
    assert "tokenizer_config.json is no regular file" in reason(folder)


def test_a_folder_without_a_tokenizer_is_said_in_a_whole_sentence(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    assert reason(folder).endswith("it has no tokenizer (tokenizer.json)")


SAVERS = {"lp_music_caps": save_tiny_model, "mert_lm": save_tiny_mert_lm}


@pytest.mark.parametrize("with_processor", [True, False])
@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
def test_an_adapter_is_a_model_folder(save: Callable[[Path], Path], with_processor: bool, tmp_path: Path) -> None:
    base = save(tmp_path / "base")
    folder = save_tiny_adapter(base, tmp_path / "adapter", with_processor)
    song = write_song(tmp_path / "a.wav", 12.0)
    answers = [Listener.load(one, device="cpu").ask(song, "What is the genre?") for one in (base, folder)]
    adapted = AutoModelForMultimodalLM.from_pretrained(folder)
    expected = Listener(adapted.eval(), AutoProcessor.from_pretrained(base), "plain").ask(song, "What is the genre?")
    assert answers[1].prediction == expected.prediction and answers[1].score == pytest.approx(expected.score, abs=1e-4)
    assert answers[1].score != pytest.approx(answers[0].score, abs=1e-4)  # or the adapter would change nothing
    assert fingerprint_model(folder) != fingerprint_model(base)


def test_an_adapter_that_leads_nowhere_is_refused(tmp_path: Path, local_hub: LocalHub) -> None:
    folder = save_tiny_adapter(save_tiny_model(tmp_path / "base"), tmp_path / "adapter")

    def name_base(base: object) -> Path:
        config = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": base}))
        return folder

    assert "is an adapter itself" in reason(name_base(str(folder)))
    assert "no config.json" in reason(name_base("/etc"))
    assert "no such folder here" in reason(name_base("tester/absent"))
    assert "is a file" in reason(name_base("/dev/zero"))
    assert "does not name the model" in reason(name_base(None))
    assert "does not name the model" in reason(name_base(["x"]))
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert "a pickle (adapter_model.bin)" in reason(name_base(str(tmp_path / "base")))


def test_an_adapter_of_which_a_matrix_is_missing_is_refused(tmp_path: Path) -> None:
    folder = save_tiny_adapter(save_tiny_model(tmp_path / "base"), tmp_path / "adapter")
    weights = load_file(folder / "adapter_model.safetensors")
    del weights[next(name for name in weights if "lora_B" in name)]
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    assert "weights are missing" in reason(folder)
