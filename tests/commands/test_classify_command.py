"""`descant classify`, as it is typed: labels, evidence, lyrics from everywhere, bad input, exit status."""

import json
from pathlib import Path

import pytest
from tiny import save_tiny_model, write_song
from tiny_subgenre import save_tiny_subgenre

from descant import cli
from descant.subgenre.classify import TrackClassifier

WORDS = "we drive all night on broken strings\nand nobody knows the words we sing"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A classifier with its captioner beside it."""
    root = tmp_path_factory.mktemp("models") / "subgenre"
    save_tiny_subgenre(root, audio_dim=16, questions=["What is the genre?"], thresholds={"jazz---swing": 0.0})
    save_tiny_model(root / "captioner")
    return str(root)


@pytest.fixture(scope="module")
def deaf(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A classifier whose captioner is gone."""
    root = tmp_path_factory.mktemp("deaf") / "subgenre"
    return str(save_tiny_subgenre(root, audio_dim=16, captioner="/nowhere/captioner"))


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return write_song(tmp_path / "song.wav", 14.0)


def classify(capsys: Capture, *arguments: object) -> tuple[int, list[dict], str]:
    status = cli.main(["classify", *map(str, arguments), "--json"])
    shown = capsys.readouterr()
    return status, [json.loads(line) for line in shown.out.splitlines()], shown.err


def test_labels_stand_over_the_pieces_they_rest_on(folder: str, song: Path, capsys: Capture) -> None:
    song.with_suffix(".txt").write_text(WORDS)
    assert cli.main(["classify", folder, str(song)]) == 0
    shown = capsys.readouterr()
    first, second, *_ = shown.out.splitlines()
    assert first == f"{song}  (from lyrics, captions, audio)"
    assert second.split("%  ")[1] in ("rock", "jazz", "ambient")
    assert shown.err == ""


def test_json_holds_scores_evidence_and_what_was_read(folder: str, song: Path, capsys: Capture) -> None:
    song.with_suffix(".lrc").write_text(f"[00:01.00]{WORDS}")
    status, (found,), errors = classify(capsys, folder, song)
    assert status == 0 and found["error"] is None
    assert (found["audio"], found["model"]) == (str(song), folder) and found["captioner"].endswith("captioner")
    assert len(found["scores"]) == 8 and found["read"] == ["lyrics", "captions", "audio"]
    spans = [span for label in found["labels"] for one in label["evidence"] for span in one["spans"]]
    assert {tuple(span) for span in spans} <= {(0.0, 10.0), (10.0, 14.0)}
    assert found["notes"] == ["time stamps were taken out of the lyrics"] and "time stamps" in errors


def test_bad_files_are_named_and_the_rest_is_done_in_order(
    folder: str, song: Path, tmp_path: Path, capsys: Capture
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    status, found, errors = classify(capsys, folder, tmp_path / "gone.wav", song, broken)
    assert status == 1
    assert [Path(one["audio"]).name for one in found] == ["gone.wav", "song.wav", "broken.wav"]
    assert [one["error"] is None for one in found] == [False, True, False]
    assert "gone.wav: does not exist" in errors and "broken.wav: " in errors and not found[0]["labels"]


@pytest.mark.parametrize(
    ("content", "note", "read"),
    [
        (b" \n", "lyrics are empty", False),
        (b"[Instrumental]", "is marked as instrumental", False),
        (b"\x00\x01\x02", "lyrics are no text: they hold NUL bytes", False),
        (b"<p>na na na</p><br>na", "HTML was taken out of the lyrics", True),
        ("déjà vu again and again".encode("cp1252"), "were read as Windows-1252", True),
        (b"la la la la and on\n" * 55_000, "lyrics have 1,044,999 characters, over 2,000", True),
    ],
)
def test_odd_lyrics_are_noted_and_the_labels_come_from_what_is_there(
    deaf: str, folder: str, song: Path, content: bytes, note: str, read: bool, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("descant.subgenre.lyrics.MAX_CHARACTERS", 2_000)  # windows of 12 tokens are many
    song.with_suffix(".txt").write_bytes(content)
    status, (found,), errors = classify(capsys, deaf if read else folder, song)
    assert any(note in one for one in found["notes"]) and note in errors
    assert found["labels"] and found["read"] == (["lyrics"] if read else ["captions", "audio"])
    assert status == (1 if read else 0)


def test_without_the_models_captioner_lyrics_alone_are_read(
    deaf: str, song: Path, tmp_path: Path, capsys: Capture
) -> None:
    song.with_suffix(".txt").write_text(WORDS)
    silent = write_song(tmp_path / "silent.wav", 4.0)
    status, (found, nothing), errors = classify(capsys, deaf, song, silent)
    assert status == 1
    assert found["read"] == ["lyrics"] and found["captioner"] is None
    gone = "the model's captioner is gone, only lyrics were read: /nowhere/captioner"
    assert any(gone in note for note in found["notes"])
    assert nothing["error"].startswith("there is nothing to go by; no lyrics were found")
    assert errors.count("captioner is gone") == 2  # once for all, and where it leaves nothing


def test_lyrics_and_captioner_may_be_given(
    deaf: str, folder: str, song: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "words.txt").write_text(WORDS)
    arguments = ["--lyrics", tmp_path / "words.txt", "--captioner", Path(folder) / "captioner"]
    status, (found,), _ = classify(capsys, deaf, song, *arguments)
    assert status == 0 and found["read"] == ["lyrics", "captions", "audio"]


def test_a_captioner_with_other_weights_is_warned_of(
    song: Path, tmp_path: Path, capsys: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    model = save_tiny_subgenre(tmp_path / "model", audio_dim=16, captioner_hash="0" * 16)
    save_tiny_model(model / "captioner")
    assert classify(capsys, model, song)[0] == 0
    assert "is not the captioner that" in caplog.text


def test_an_interrupt_keeps_what_was_printed_and_ends_with_130(
    deaf: str, song: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    song.with_suffix(".txt").write_text(WORDS)
    classify_track, answers = TrackClassifier.classify, iter((True, False))

    def interrupted_at_the_second(self: TrackClassifier, *arguments: object) -> object:
        if next(answers):
            return classify_track(self, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(TrackClassifier, "classify", interrupted_at_the_second)
    status, (found,), errors = classify(capsys, deaf, song, song)
    assert status == 130 and found["labels"]
    assert errors.endswith("interrupted\n") and "Traceback" not in errors


def test_what_cannot_be_asked_is_refused_in_a_sentence(
    folder: str, song: Path, tmp_path: Path, capsys: Capture
) -> None:
    bad = json.loads((Path(folder) / "config.json").read_text()) | {"thresholds": {"polka": 0.5}}
    strange = tmp_path / "strange"
    strange.mkdir()
    for path in Path(folder).glob("*.*"):
        (strange / path.name).write_bytes(path.read_bytes())
    (strange / "config.json").write_text(json.dumps(bad))
    narrow = save_tiny_subgenre(tmp_path / "narrow")
    captioner = f"{folder}/captioner"
    (tmp_path / "words.pdf").write_text(WORDS)
    capsys.readouterr()
    for arguments, complaint in [
        ([captioner, song], "is a lp_music_caps model, which gives music no labels; descant classifies with subgenre"),
        ([tmp_path / "nowhere", song], "no such folder"),
        ([folder, song, "--captioner", folder], "is a subgenre model, which cannot answer about music; descant asks"),
        ([folder, song, "--captioner", tmp_path / "gone"], "gone: no such folder"),
        ([folder, song, song, "--lyrics", song], "--lyrics are those of one AUDIO, and 2 are given"),
        ([folder, song, "--lyrics", tmp_path / "words.pdf"], "is neither .lrc nor .txt"),
        ([folder, song, "--lyrics", tmp_path / "gone.txt"], "gone.txt: cannot be read: No such file"),
        ([strange, song], "threshold for 'polka', which is not in the label tree"),
        ([narrow, song, "--captioner", captioner], r"shape (16,), the model needs (6,)"),
    ]:
        status, found, errors = classify(capsys, *arguments)
        assert (status, found) == (2, []), arguments
        assert complaint in errors and errors.startswith("descant classify: ")
