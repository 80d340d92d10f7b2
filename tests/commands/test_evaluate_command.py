"""`descant evaluate`: answers, scores, controls, leaks, processes, kills."""

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
import soundfile
from forked_python import ForkedPython, run_ranks
from tiny import save_tiny_model, write_song

from descant.answering.listener import Listener
from descant.cli import main
from descant.commands.evaluate import name_place
from descant.data.annotations import read_own
from descant.data.extraction import extract_features
from descant.data.features import FeatureStore
from descant.data.splits import ClipHashes
from descant.evaluation import controls
from descant.evaluation.controls import answer_rows, as_record, measure_listening
from descant.evaluation.evaluate import LOCK_FILE
from descant.files import hold_lock
from descant.models.lp_music_caps import LPMusicCapsFeatureExtractor
from descant.publish.facts import hash_clips, write_records

QUESTIONS = (("What is the genre?", "jazz", "genre"), ("Which instruments play?", "piano", "instruments"))
CLIPS = 6


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A tiny model and a dataset of two training and four test clips."""
    folder = tmp_path_factory.mktemp("evaluate")
    save_tiny_model(folder / "model")
    rows = []
    for clip in range(CLIPS):
        write_song(folder / f"s{clip}.wav", seconds=10, rate=16_000, start_hertz=110 + 40 * clip)
        for question, answer, kind in QUESTIONS:
            split = "train" if clip < 2 else "test"
            row = {"audio": f"s{clip}.wav", "question": question, "answer": answer, "question_type": kind}
            rows.append(row | {"split": split})
    (folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def arguments(place: Path, out: Path, *more: str) -> list[str]:
    return [
        "evaluate", str(place / "model"), "--dataset", str(place / "own.jsonl"), "--protocol", "musilingo",
        "--features", str(place / "features"), "--output_dir", str(out), "--batch_size", "1", *more,
    ]  # fmt: skip


def read_answers(folder: Path, name: str = "answers.jsonl") -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").split("\n") if line]


@pytest.fixture(scope="module")
def evaluated(place: Path) -> Path:
    """One whole evaluation with controls."""
    assert main(arguments(place, place / "out", "--controls")) == 0
    return place / "out"


def test_every_question_of_the_split_is_answered_in_order(evaluated: Path) -> None:
    answers = read_answers(evaluated)
    expected = [(f"s{clip}", question) for clip in range(2, CLIPS) for question, _, _ in QUESTIONS]
    assert [(one["clip_id"], one["question"]) for one in answers] == expected
    assert all(one["prediction"] is not None and one["references"] and one["id"] for one in answers)


def test_scores_are_those_that_score_finds_in_the_answers(evaluated: Path, capsys) -> None:
    assert main(["score", str(evaluated / "answers.jsonl"), "--protocol", "musilingo", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    scores = json.loads((evaluated / "scores.json").read_text())
    assert {name: scores[name] for name in again["intervals"]} == {name: again[name] for name in again["intervals"]}
    assert scores["n"] == 8 and scores["dataset"] == "own"


def test_every_control_is_answered_and_compared(evaluated: Path) -> None:
    scores = json.loads((evaluated / "scores.json").read_text())
    assert list(scores["controls"]) == ["shuffled", "noise", "silence", "no_question", "majority"]
    assert scores["controls"]["majority"]["exact"]["score"] == 1
    assert scores["controls"]["shuffled"]["meteor" if "meteor" in scores else "meteor_no_wordnet"]["interval"]
    assert len(scores["verdicts"]) >= 4
    assert len(read_answers(evaluated, "answers-shuffled.jsonl")) == 8


def test_the_report_of_a_training_run_gives_the_same_answers_and_numbers(place: Path, tmp_path, monkeypatch) -> None:
    out, told = tmp_path / "out", []

    def watch(*asked, **settings) -> list[str]:
        told.append(answer_rows(*asked, **settings))
        return told[-1]

    monkeypatch.setattr(controls, "answer_rows", watch)
    assert main(arguments(place, out, "--controls", "--num_beams", "1")) == 0
    scores = json.loads((out / "scores.json").read_text())
    listener = Listener.load(str(place / "model"))
    rows = read_own(place / "own.jsonl").rows
    store = FeatureStore(place / "features", listener.features.to_dict())
    test, train = ([row for row in rows if row.split == split] for split in ("test", "train"))
    listening = as_record(measure_listening(listener.model, listener.processor, test, train, store, batch_size=1))
    written = [read_answers(out), read_answers(out, "answers-shuffled.jsonl")]
    assert told == [[one["prediction"] for one in answers] for answers in written] and told[0] != told[1]
    gaps = scores["controls"]
    percentages = [scores["exact"], gaps["majority"]["exact"]["score"], gaps["shuffled"]["exact"]["score"]]
    assert [listening[name]["value"] for name in ("own", "deaf", "other")] == [100 * share for share in percentages]


def test_the_report_and_the_card_state_the_scores(evaluated: Path, place: Path) -> None:
    assert "## Does it listen?" in (evaluated / "results.md").read_text()
    assert "musilingo" in (place / "model" / "README.md").read_text()


def test_a_second_run_asks_nothing_again(evaluated: Path, place: Path, monkeypatch, capsys) -> None:
    before = (evaluated / "answers.jsonl").read_bytes()
    refuse = "descant.models.lp_music_caps.modeling_lp_music_caps.LPMusicCapsForConditionalGeneration.answer_many"
    monkeypatch.setattr(refuse, None)
    assert main(arguments(place, evaluated)) == 0
    assert (evaluated / "answers.jsonl").read_bytes() == before


def own_copy(place: Path, folder: Path) -> list[str]:
    """The arguments that evaluate a copy of the dataset in a folder, whose files a test may change."""
    for path in [*place.glob("s?.wav"), place / "own.jsonl"]:
        shutil.copy(path, folder)
    wanted = arguments(place, folder / "out")
    wanted[3], wanted[7] = str(folder / "own.jsonl"), str(folder / "features")
    return wanted


def test_mended_references_count_and_odd_line_ends_in_them_do_no_harm(place: Path, tmp_path, monkeypatch) -> None:
    wanted = own_copy(place, tmp_path)
    assert main(wanted) == 0
    before = read_answers(tmp_path / "out")
    mended = (tmp_path / "own.jsonl").read_text().replace('"jazz"', '"blues,\u2028slow\u0085 and sad"')
    (tmp_path / "own.jsonl").write_text(mended, encoding="utf-8")
    refuse = "descant.models.lp_music_caps.modeling_lp_music_caps.LPMusicCapsForConditionalGeneration.answer_many"
    monkeypatch.setattr(refuse, None)
    for _ in range(2):
        assert main(wanted) == 0
    after = read_answers(tmp_path / "out")
    assert [one["prediction"] for one in after] == [one["prediction"] for one in before]
    assert after[0]["references"] == ["blues,\u2028slow\u0085 and sad"]


def test_answers_about_audio_that_was_replaced_are_not_taken(place: Path, tmp_path) -> None:
    wanted = own_copy(place, tmp_path)
    assert main(wanted) == 0
    before = read_answers(tmp_path / "out")
    shutil.copy(place / "s5.wav", tmp_path / "s2.wav")
    shutil.rmtree(tmp_path / "features")
    assert main(wanted) == 0
    after = read_answers(tmp_path / "out")
    assert [one["id"] for one in after] == [one["id"] for one in before]
    assert [one["prediction"] for one in after[:2]] == [one["prediction"] for one in before[-2:]]


def test_two_processes_give_exactly_the_files_of_one(evaluated: Path, place: Path, tmp_path) -> None:
    shown, _ = run_ranks(2, "-m", "descant.cli", *arguments(place, tmp_path))
    assert (tmp_path / "answers.jsonl").read_bytes() == (evaluated / "answers.jsonl").read_bytes()
    ours, theirs = (json.loads((folder / "scores.json").read_text()) for folder in (tmp_path, evaluated))
    assert ours["intervals"] == theirs["intervals"]
    assert shown.count("# ") == 1


# The command, which waits after its first answers: what is to be killed cannot have ended before.
STOPPING = """
import sys, time
from descant import cli
from descant.answering.answer_log import AnswerLog
append = AnswerLog.append
AnswerLog.append = lambda *given: append(*given) or time.sleep(600)
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_killed_run_goes_on_to_the_same_answers(evaluated: Path, place: Path, tmp_path) -> None:
    run = ForkedPython("-c", STOPPING, *arguments(place, tmp_path))
    while not any(b"\n" in part.read_bytes() for part in tmp_path.glob(".answers-own-*/part-0.jsonl")):
        assert run.poll() is None, run.said()
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert main(arguments(place, tmp_path)) == 0
    assert (tmp_path / "answers.jsonl").read_bytes() == (evaluated / "answers.jsonl").read_bytes()


def test_training_clips_are_refused_unless_allowed(place: Path, tmp_path, capsys) -> None:
    save_tiny_model(tmp_path / "model")
    write_records(tmp_path / "model", [], {"s2": ClipHashes("sha"), "s9": ClipHashes("sha")}, None)
    leaky = arguments(place, tmp_path / "out")
    leaky[1] = str(tmp_path / "model")
    assert main(leaky) == 2
    captured = capsys.readouterr()
    assert "trained on 1 clips of the test split, s2 among them" in captured.err and not captured.out
    assert main([*leaky, "--allow_leak"]) == 0
    assert "**Leak: 1 of these clips" in capsys.readouterr().out
    assert not (tmp_path / "model" / "scores.json").exists()


def test_a_clip_that_was_trained_on_under_another_name_is_refused(place: Path, tmp_path, capsys) -> None:
    import hashlib

    save_tiny_model(tmp_path / "model")
    digest = hashlib.sha256((place / "s3.wav").read_bytes()).hexdigest()
    write_records(tmp_path / "model", [], {"renamed": ClipHashes(sound=digest)}, None)
    leaky = arguments(place, tmp_path / "out")
    leaky[1] = str(tmp_path / "model")
    assert main(leaky) == 2
    assert "s3 among them" in capsys.readouterr().err


def test_clips_that_cannot_be_heard_are_named_and_skipped(place: Path, tmp_path, capsys) -> None:
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    rows = [json.loads(line) for line in (place / "own.jsonl").read_text().splitlines()]
    rows = [row | {"audio": str(place / row["audio"])} for row in rows]
    rows.append(rows[-1] | {"audio": str(tmp_path / "bad.wav")})
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    partly = arguments(place, tmp_path / "out")
    partly[3] = str(tmp_path / "own.jsonl")
    assert main(partly) == 1
    failed = read_answers(tmp_path / "out")[-1]
    assert failed["clip_id"] == "bad" and failed["prediction"] is None and failed["error"]
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["skipped"] == 1


def test_a_question_that_is_too_long_is_its_own_problem(place: Path, tmp_path, caplog, capsys) -> None:
    rows = [json.loads(line) for line in (place / "own.jsonl").read_text().splitlines()]
    rows = [row | {"audio": str(place / row["audio"])} for row in rows]
    rows.insert(5, rows[5] | {"question": "long " * 20_000})
    broken = json.dumps(rows[6] | {"answer": 5})
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + broken + "\n")
    wanted = arguments(place, tmp_path / "out", "--controls", "--batch_size", "2")
    wanted[3] = str(tmp_path / "own.jsonl")
    for _ in range(2):  # a second run asks again, with the same end
        assert main(wanted) == 1
        answers = read_answers(tmp_path / "out")
        bad = [one for one in answers if one["error"]]
        assert len(answers) == 9 and len(bad) == 1 and "shorten the question" in bad[0]["error"]
        assert all(one["prediction"] is not None for one in answers if one not in bad)
        scores = json.loads((tmp_path / "out" / "scores.json").read_text())
        assert (scores["n"], scores["skipped"], scores["bad_records"]) == (8, 1, 1)
        assert "8 answers, 1 skipped, 1 bad records in the dataset" in capsys.readouterr().out
    assert "own.jsonl:14: " in caplog.text and "answers.jsonl:2: s2: was not answered: " in caplog.text


def test_answers_that_vanish_meanwhile_are_missed(place: Path, tmp_path, monkeypatch, capsys) -> None:
    from descant.answering.answer_log import AnswerLog

    monkeypatch.setattr(AnswerLog, "refresh", lambda log: log.known.clear())
    assert main(arguments(place, tmp_path / "out")) == 2
    assert "8 of 8 answers are gone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "reason"),
    [(("--split", "nowhere"), "has rows in"), (("--dataset_config", "captions"), "captions")],
)
def test_a_split_or_configuration_without_rows_is_refused(place: Path, tmp_path, capsys, change, reason) -> None:
    assert main(arguments(place, tmp_path, *change)) == 2
    assert reason in capsys.readouterr().err


def test_a_copy_in_another_file_format_is_refused(place: Path, tmp_path, capsys) -> None:
    trained = FeatureStore(tmp_path / "trained", LPMusicCapsFeatureExtractor().to_dict())
    soundfile.write(tmp_path / "copy.flac", *soundfile.read(place / "s3.wav", dtype="int16"))
    extract_features({"copy": tmp_path / "copy.flac"}, LPMusicCapsFeatureExtractor(), trained)
    save_tiny_model(tmp_path / "model")
    write_records(tmp_path / "model", [], hash_clips(trained, ["copy"]), None)
    leaky = arguments(place, tmp_path / "out")
    leaky[1] = str(tmp_path / "model")
    assert main(leaky) == 2
    assert "s3 among them" in capsys.readouterr().err


def test_a_folder_that_another_evaluation_writes_into_is_refused(place: Path, tmp_path, capsys) -> None:
    with hold_lock(tmp_path / LOCK_FILE):
        assert main(arguments(place, tmp_path)) == 2
    assert f"another evaluation is writing into {tmp_path}" in capsys.readouterr().err
    assert not (tmp_path / "answers.jsonl").exists()


def test_scores_are_printed_where_the_card_cannot_be_written(place: Path, evaluated: Path, tmp_path, capsys) -> None:
    shutil.copytree(place / "model", tmp_path / "model", ignore=shutil.ignore_patterns("scores.json"))
    (tmp_path / "model" / "scores.json").mkdir()
    wanted = arguments(place, tmp_path / "out")
    wanted[1] = str(tmp_path / "model")
    assert main(wanted) == 0
    captured = capsys.readouterr()
    assert "Protocol `musilingo`" in captured.out
    assert f"the card of {tmp_path / 'model'} does not state these scores: " in captured.err


def test_every_model_has_an_output_folder_of_its_own(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for run in ("a", "b"):
        (tmp_path / run / "best").mkdir(parents=True)
    models = ("you/m-v1.5", "you/m-v1.6", "me/m-v1.6", "a/best", "b/best")
    assert len({name_place(model) for model in models}) == 5
    assert name_place("you/m-v1.5") == "you--m-v1.5" and name_place("a/best").startswith("best-")
    assert name_place("a/best") == name_place(str(tmp_path / "a" / "best"))


def test_features_of_other_splits_are_not_looked_for(place: Path, tmp_path: Path, caplog) -> None:
    arguments_of_new_store = ["--features", str(tmp_path / "features"), "--max_clips", "1"]
    assert main(arguments(place, tmp_path / "out", *arguments_of_new_store)) == 0
    assert "no features were fetched" not in caplog.text
