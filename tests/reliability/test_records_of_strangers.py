"""Folders and records that somebody else made: nothing outside a folder is published, every fault is one sentence."""

import gzip
import json
import os
import tracemalloc
from pathlib import Path

import pytest
from huggingface_hub import constants
from tiny import save_tiny_model, write_song

from descant import cli
from descant.hub_client import PublishError
from descant.publish.card import keep_result, update_card, write_card
from descant.publish.code import collect_files
from descant.publish.facts import RecordError, Scores, check, read_clips, read_facts, read_json, read_records

REPO = "tester/m"
SECRET = b"-----BEGIN PRIVATE KEY-----"
DATA = {"id": "tester/free", "revision": "abc", "configs": ["short"], "split": "train", "licence": "cc0-1.0"}
SCORE = {"protocol": "musilingo", "dataset": "tester/x", "config": "short", "split": "test", "n": 9, "bleu": 0.5,
         "intervals": {"bleu": [0.4, 0.6]}}  # fmt: skip
ACCURACY = {"value": 90.0, "low": 80.0, "high": 100.0}
GOOD = {
    "training_data.json": [DATA], "run.json": {"recipe": "mi_all", "stages": [["all", 1.0]], "learning_rate": 1e-4},
    "training_facts.json": {"hardware": "1 process", "hours": 0.5, "versions": {"torch": "2"}},
    "scores.json": [SCORE], "listening.json": {"test": {"n": 4, **dict.fromkeys(("own", "other", "deaf"), ACCURACY)}},
}  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("saved") / "m")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """Give a model folder with every record, each file of its own."""
    copy = tmp_path / "m"
    copy.mkdir()
    for path in saved.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    for name, value in GOOD.items():
        (copy / name).write_text(json.dumps(value))
    return copy


def collect(folder: Path) -> dict[str, bytes]:
    """Return what a push would send."""
    files = collect_files(read_facts(folder), "card", REPO)
    return {name: content if isinstance(content, bytes) else content.read_bytes() for name, content in files.items()}


def push(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line with which a push ends with status 2."""
    assert cli.main(["push", str(folder), REPO]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("descant push: ") and "\n" not in said
    return said


def test_a_good_folder_is_pushed_and_its_card_states_every_record(local_hub, folder: Path) -> None:
    assert cli.main(["push", str(folder), REPO]) == 0
    card = local_hub.files(REPO)["README.md"].decode()
    for said in ("tester/free", "mi_all", "0.5000", "1 process", "90.0"):
        assert said in card


# H11: nothing from outside of the folder


def secret(folder: Path) -> Path:
    path = folder.parent / "id_ed25519"
    path.write_bytes(SECRET)
    return path


LINKED = ["vocab.json", "merges.txt", "chat_template.jinja", "loss.png", "extra.model", "README.md", "run.json",
          "config.json", "training_facts.json"]  # fmt: skip


@pytest.mark.parametrize("name", LINKED)
def test_a_link_out_of_the_folder_is_refused_by_name(local_hub, folder: Path, capsys, name: str) -> None:  # H11
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(secret(folder))
    assert f"{folder / name} is a link to a file outside of the folder" in push(folder, capsys)
    assert ("model", REPO) not in local_hub.store.repos
    assert not any(SECRET in content for content in local_hub.store.blobs.values())


def test_a_chain_of_links_is_followed_to_its_end(folder: Path) -> None:  # H11
    (folder / "sub").mkdir()
    (folder / "sub" / "key").symlink_to(secret(folder))
    (folder / "merges.txt").unlink(missing_ok=True)
    (folder / "merges.txt").symlink_to("sub/key")
    with pytest.raises(PublishError, match="merges.txt is a link to a file outside"):
        collect(folder)


def test_links_within_the_folder_and_a_folder_that_is_a_link_are_fine(folder: Path, tmp_path: Path) -> None:
    (folder / "loss.png").write_bytes(b"png")
    (folder / "extra.model").symlink_to("loss.png")
    (tmp_path / "link").symlink_to(folder)
    assert collect(tmp_path / "link")["extra.model"] == b"png"


def test_a_pipe_is_refused_without_waiting_for_it(folder: Path) -> None:  # H11
    os.mkfifo(folder / "loss.png")
    with pytest.raises(PublishError, match="loss.png is no regular file"):
        collect(folder)


NAMES = ["{outside}/secretmod.X", "../secretmod.X", "..secretmod.X", "sub/secretmod.X", "secretmod", "a.b.C", "1a.X",
         "secret\x00mod.X", "", ".X", "*.X", "a b.X"]  # fmt: skip


@pytest.mark.parametrize("file", ["config.json", "processor_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("name", NAMES)
def test_code_is_named_by_identifiers_alone(folder: Path, file: str, name: str) -> None:  # H11
    (folder.parent / "secretmod.py").write_text("SECRET = 1")
    name = name.format(outside=folder.parent)
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**config, "auto_map": {"AutoModelForCausalLM": name}}))
    with pytest.raises(PublishError, match=f"{file} names the code .* not of the form module.Class"):
        collect(folder)


@pytest.mark.parametrize("value", [["{}"], {"pt": "{}"}, [None, "{}"]])
def test_code_in_lists_and_pipelines_is_looked_at_too(folder: Path, value: object) -> None:  # H11
    config = json.loads((folder / "config.json").read_text())
    text = json.dumps(value).replace("{}", "/etc/passwd.X")
    for key in ({"auto_map": {"AutoTokenizer": json.loads(text)}}, {"custom_pipelines": {"x": {"impl": "/etc/x.X"}}}):
        (folder / "config.json").write_text(json.dumps({**config, "deep": key}))
        with pytest.raises(PublishError, match="not of the form module.Class"):
            collect(folder)


def test_a_module_that_is_a_link_out_is_refused(folder: Path) -> None:  # H11
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "own.X"}}))
    (folder / "own.py").symlink_to(secret(folder))
    with pytest.raises(PublishError, match="own.py is a link to a file outside of the folder"):
        collect(folder)


def test_code_of_other_repositories_stays_there(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "some/repo--modeling.X"}}))
    assert "modeling.py" not in collect(folder)


# H12: records of any shape

DEEP = b"[" * 100_000
ODD = {
    "a list": b"[1]", "another object": b'{"a": 1}', "a list of numbers": b"[5]", "half": b'{"half', "text": b'"x"',
    "null": b"null", "a number": b"7", "deep": DEEP, "deep objects": b'{"a":' * 100_000, "latin-1": b'{"id": "\xe9"}',
    "empty": b"", "utf-16": '{"a": 1}'.encode("utf-16"), "long number": b"9" * 5000, "nested lists": b"[[[]]]",
    "wrong fields": json.dumps({
        "id": 5, "licence": {}, "recipe": 5, "stages": [5], "hours": "x", "versions": 7, "protocol": [], "n": "x",
        "intervals": 5, "run": 5, "test": 5, "processor_class": 5, "feature_extractor": 5, "custom_pipelines": 5,
        "auto_map": 5, "base_model_name_or_path": 5, "audio_model_id": 5,
    }).encode(),
}  # fmt: skip
RECORDS = [*GOOD, "config.json", "processor_config.json", "adapter_config.json", "tokenizer_config.json"]


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
@pytest.mark.parametrize("name", RECORDS)
def test_a_record_of_any_shape_is_published_or_refused_by_name(folder: Path, name: str, content: bytes) -> None:  # H12
    if name == "run.json":  # the facts, where there are some, hold the run already
        (folder / "training_facts.json").unlink()
    (folder / name).write_bytes(content)
    try:
        write_card(folder)
        collect(folder)
    except PublishError as error:
        assert name in str(error) and "\n" not in str(error) and len(str(error)) < 400
    else:
        assert content in (b'{"a": 1}', ODD["wrong fields"]) and name not in ("processor_config.json", "scores.json")


WRONG = [
    ("scores.json", [{**SCORE, "n": "9"}], r"\[0\].n is '9', not a whole number"),
    ("scores.json", [{**SCORE, "bleu": None}], r"\[0\].bleu is null, not a number"),
    ("scores.json", [SCORE, {**SCORE, "intervals": {"bleu": [1]}}], r"bleu is a list, not a list of 2"),
    ("scores.json", [{**SCORE, "intervals": {"x\x1b[2J": [0, 1]}}], r"\[0\]\['x\\x1b\[2J'\] is null, not a number"),
    ("scores.json", [{**SCORE, "bleu": 10**400}], r"\[0\].bleu is 1000.* not a number"),
    ("scores.json", [{**SCORE, "n": True}], r"\[0\].n is True, not a whole number"),
    ("scores.json", {"n": 1}, r"\[0\] has no protocol"),
    ("training_data.json", [DATA, {"licence": "mit"}], r"\[1\] has no id"),
    ("training_data.json", [{**DATA, "licence": ["mit", 5]}], r"\[0\].licence\[1\] is 5, not text"),
    ("training_data.json", [{**DATA, "configs": "short"}], r"\[0\].configs is 'short', not a list"),
    ("training_facts.json", {"hours": "long"}, r"hours is 'long', not a number"),
    ("training_facts.json", {"run": {"stages": [["all"]]}}, r"run.stages\[0\] is a list, not a list of 2"),
    ("listening.json", {"test": {"n": 1}}, r"test has no deaf"),
    ("listening.json", {"test": {"n": 1, "own": ACCURACY, "other": ACCURACY, "deaf": 5}}, r"deaf is 5, not an object"),
    ("processor_config.json", {"feature_extractor": {}}, "it has no processor_class"),
    ("processor_config.json", {"processor_class": "X"}, "has no sampling_rate"),
    ("processor_config.json", {"processor_class": "SubgenreProcessor"}, "config.json has no label_tree"),
]


@pytest.mark.parametrize(("name", "value", "said"), WRONG)
def test_the_place_in_a_record_is_named(folder: Path, name: str, value: object, said: str) -> None:  # H12
    (folder / name).write_text(json.dumps(value))
    with pytest.raises(PublishError, match=said):
        write_card(folder)


@pytest.mark.parametrize("content", [b"", b"garbage" * 99, b"\xff" * 8 + b"{}", b"<html>", b"\x10\0\0\0\0\0\0\0{}"])
def test_broken_weights_are_named(folder: Path, capsys, content: bytes) -> None:  # H12
    (folder / "model.safetensors").write_bytes(content)
    assert f"{folder / 'model.safetensors'} holds no whole weights" in push(folder, capsys)


CARDS = {
    "latin-1": "---\nlicense: mit\n---\ncaf\xe9".encode("latin-1"), "broken YAML": b"---\nlicense: [mit\n---\nmine",
    "a list": b"---\n- mit\n---\nmine", "text": b"---\nmit\n---\nmine", "deep": b"---\na: " + DEEP + b"\n---\nmine",
    "a date": b"---\ndate: 2020-99-99\n---\nmine", "a tag": b"---\na: !!python/object:os.system {}\n---\nmine",
}  # fmt: skip


@pytest.mark.parametrize("content", CARDS.values(), ids=CARDS)
def test_a_card_that_cannot_be_read_is_named(local_hub, folder: Path, capsys, content: bytes) -> None:  # H12
    (folder / "README.md").write_bytes(content)
    assert str(folder / "README.md") in push(folder, capsys)
    assert ("model", REPO) not in local_hub.store.repos


@pytest.mark.parametrize("licence", ["5", "{a: 1}", "[mit, 5]", "2020-01-01"])
def test_a_licence_of_any_kind_is_text_or_refused(local_hub, folder: Path, capsys, licence: str) -> None:  # H12
    (folder / "README.md").write_text(f"---\nlicense: {licence}\ntags: 5\nmodel-index: [1]\n---\nmine")
    status = cli.main(["push", str(folder), REPO])
    assert status == 0 or "\n" not in capsys.readouterr().err.strip()


def test_a_score_is_kept_beside_damaged_ones_or_the_file_is_named(folder: Path) -> None:
    result = {**SCORE, "model": "m", "leak": {"clips": 0}, "max_clips": None}
    (folder / "scores.json").write_text('{"half')
    with pytest.raises(RecordError, match="scores.json is not JSON"):
        keep_result(folder / "scores.json", result)
    (folder / "scores.json").unlink()
    (folder / "README.md").write_bytes(b"mine, in latin-1: \xe9")
    update_card(folder, result)
    assert json.loads((folder / "scores.json").read_text())[0]["bleu"] == 0.5


def test_names_longer_than_a_path_are_no_files(folder: Path) -> None:
    long = "a/" + "b" * 5000
    (folder / "training_facts.json").write_text(json.dumps({"base_model": long, "run": {"dataset": long}}))
    write_card(folder)


def test_a_record_has_a_longest_size(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr("descant.publish.facts.LONGEST_RECORD", 10)
    with pytest.raises(RecordError, match="run.json is longer than any record"):
        read_json(folder / "run.json")


def test_types_are_checked_as_json_has_them(tmp_path: Path) -> None:
    good = [(1, float), (None, str | None), ([], list[str]), ({}, dict[str, int]), ([1, "a"], tuple[int, str])]
    for value, shape in good:
        check(value, shape, tmp_path)
    for value, shape in [(True, int), (1.0, int), (float("nan"), float), ("x", list[str]), ([1], tuple[int, int])]:
        with pytest.raises(RecordError):
            check(value, shape, tmp_path)
    check(SCORE, Scores, tmp_path)


def test_text_of_a_record_stays_text_on_a_card(folder: Path) -> None:  # H13
    hostile = "x\n---\n# Title\n| {{ 7 * 7 }} {% raw %} <script>alert(1)</script>"
    (folder / "training_facts.json").write_text(json.dumps({"hardware": hostile, "run": {"note": hostile}}))
    (folder / "training_data.json").write_text(json.dumps([{**DATA, "id": hostile}]))
    card = write_card(folder).read_text()
    assert "49" not in card and "\n# Title" not in card and card.count("\n---\n") == 1


# H1 to H3: what a folder may make a command do


def header(size: int, text: bytes = b"{}") -> bytes:
    return size.to_bytes(8, "little") + text


TENSOR = json.dumps({"lm_head.weight": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 8]}}).encode()
WEIGHTS = {
    "empty": b"", "a header of 2^60 bytes": header(2**60), "of 99 MB": header(99_000_000), "a page": b"<!DOCTYPE>",
    "an absurd shape": header(len(TENSOR), TENSOR) + bytes(8), "no JSON": header(5, b"{{{{{"),
    "another dtype": header(len(TENSOR), TENSOR.replace(b"F32", b"X32")) + bytes(8),
    "offsets beyond the end": header(len(TENSOR), TENSOR.replace(b"[0, 8]", b"[0, 99]")) + bytes(8),
}  # fmt: skip


@pytest.mark.parametrize("content", WEIGHTS.values(), ids=WEIGHTS)
def test_weights_of_any_bytes_are_refused_in_a_sentence(folder: Path, capsys, content: bytes) -> None:  # H2
    (folder / "model.safetensors").write_bytes(content)
    assert cli.main(["ask", str(folder), "song.wav", "-q", "What is the genre?"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("descant ask: ") and said.count("\n") == 1


@pytest.mark.parametrize("file", ["config.json", "processor_config.json", "tokenizer_config.json"])
def test_code_of_a_folder_is_never_run(folder: Path, tmp_path: Path, capsys, file: str) -> None:  # H3
    for name in ("evil", "modeling_lp_music_caps", "sound_file"):
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass X: pass")
    kinds = ("AutoConfig", "AutoModel", "AutoModelForMultimodalLM", "AutoProcessor", "AutoTokenizer")
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**config, "auto_map": dict.fromkeys(kinds, "evil.X")}))
    song = write_song(tmp_path / "song.mp3", 3.0, 16_000)  # a WAV by its content
    assert cli.main(["ask", str(folder), str(song), "-q", "What is the genre?"]) == 0
    assert capsys.readouterr().out and not (tmp_path / "ran").exists()


# H6: training_clips.txt.gz


def clips(folder: Path, content: bytes) -> Path:
    (folder / "training_clips.txt.gz").write_bytes(content)
    return folder / "training_clips.txt.gz"


WHOLE = gzip.compress("".join(f"clip{number}\t{number:064x} {number:064x}\n" for number in range(99)).encode())
DAMAGED = {
    "cut": (WHOLE[: len(WHOLE) // 2], "is cut short or damaged"),
    "flipped": (WHOLE[:60] + bytes([WHOLE[60] ^ 0xFF, WHOLE[61] ^ 0xFF]) + WHOLE[62:], "training_clips.txt.gz"),
    "no gzip": (b"clip\t1\n", "is cut short or damaged"),
    "no tab": (gzip.compress(b"a\t1\nclip 1\n"), "line 2 is no clip with its hashes"),
    "no clip": (gzip.compress(b"\t1\n"), "line 1 is no clip with its hashes"),
    "one long line": (gzip.compress(b"\0" * 50_000_000), "line 1 is no clip with its hashes"),
}


@pytest.mark.parametrize(("content", "said"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_list_of_clips_is_named(folder: Path, content: bytes, said: str) -> None:  # H6
    clips(folder, content)
    with pytest.raises(RecordError, match=said) as raised:
        read_records(str(folder))
    assert "training_clips.txt.gz" in str(raised.value) and "\n" not in str(raised.value)


def test_a_whole_list_of_clips_is_read(folder: Path) -> None:
    found = read_clips(clips(folder, WHOLE))
    assert len(found) == 99 and found["clip7"] == f"{7:064x} {7:064x}"


def test_a_bomb_takes_no_more_memory_than_a_line(folder: Path) -> None:  # H6
    path = clips(folder, gzip.compress(b"\0" * 100_000_000))
    tracemalloc.start()
    with pytest.raises(RecordError):
        read_clips(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


def test_a_list_of_clips_has_a_longest_size(folder: Path, monkeypatch) -> None:  # H6
    path = clips(folder, WHOLE)
    monkeypatch.setattr("descant.publish.facts.LONGEST_CLIPS", 1000)
    with pytest.raises(RecordError, match="line 8 is no clip"):
        read_clips(path)
    monkeypatch.setattr("descant.publish.facts.LONGEST_PACKED", 100)
    with pytest.raises(RecordError, match="is longer than any list of clips"):
        read_clips(path)


def test_records_of_a_model_on_the_hub_are_checked_too(local_hub, folder: Path) -> None:  # H6
    clips(folder, DAMAGED["cut"][0])
    local_hub.api().create_repo(REPO)
    local_hub.api().upload_folder(repo_id=REPO, folder_path=folder)
    with pytest.raises(RecordError, match="training_clips.txt.gz is cut short"):
        read_records(REPO)


def test_offline_push_is_one_sentence(folder: Path, capsys, monkeypatch) -> None:  # F18
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids to ask" in push(folder, capsys)
