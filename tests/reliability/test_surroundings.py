"""Commands in odd surroundings and with odd arguments: closed streams, devices, long names, texts of any kind."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import write_song
from tiny_subgenre import save_every_kind

from descant import cli

GENRE = "What is the genre?"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models, a song, a song below a path as long as the system takes, and answers to score."""
    folder = save_every_kind(tmp_path_factory.mktemp("place"), GENRE)
    write_song(folder / "song.wav", 3.0, 16_000)
    (folder / "songs").mkdir()
    (folder / "songs" / "song.wav").hardlink_to(folder / "song.wav")
    answer = {"clip_id": "a", "question": "q", "prediction": "x y", "references": ["x y"]}
    (folder / "answers.jsonl").write_text(json.dumps(answer) + "\n")
    os.mkfifo(folder / "pipe")
    return folder


# Command → its line for a sound file, or for what stands in its place.
LINES: dict[str, Callable[[Path, str], list[str]]] = {
    "ask": lambda place, song: ["ask", str(place / "model"), song, "-q", GENRE],
    "decide": lambda place, song: ["decide", "--model", str(place / "decider"), song, "--choice", "genre=jazz,rock"],
    "classify": lambda place, song: ["classify", str(place / "subgenre"), song],
    "features": lambda place, song: ["features", song, "--features", str(place / "features")],
}


def require_one_sentence(command: str, status: int, error: str, statuses: tuple[int, ...] = (1, 2)) -> None:
    assert status in statuses and "Traceback" not in error, error
    assert [line.startswith(f"descant {command}: ") for line in error.splitlines()] == [True], error


NAMES = ["", "-", "x" * 5_000, "a\0b.wav", "/dev/null", "/dev/zero", "/dev/stdin", "/proc/self/mem", "file:///etc/passwd",
         "http://127.0.0.1:9/x.wav", "{place}/pipe", "{place}/empty", "*", "caf\udce9.wav"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("command", LINES)
def test_what_is_no_sound_is_refused_in_a_sentence(
    command: str, name: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (place / "empty").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path)
    status = cli.main(LINES[command](place, name.format(place=place)))
    lines = capsys.readouterr().err.splitlines()
    require_one_sentence(command, status, lines[-1])


@pytest.mark.parametrize("name", ["/dev/zero", "{place}/pipe"])
@pytest.mark.parametrize("line", [
    "score {} --protocol musilingo", "compare {place}/answers.jsonl {} --protocol musilingo",
    "score {place}/answers.jsonl --protocol musilingo --train_references {}.jsonl",
    "decide --model {place}/decider {place}/song.wav --questions {}", "evaluate {place}/model --dataset {}.csv",
    "features {}.csv --features {place}/features", "push {} you/model", "ask {} {place}/song.wav",
    "classify {place}/subgenre {place}/song.wav --lyrics {}.txt", "convert {} --output {place}/converted",
    "download {}.csv {place}/clips", "features --verify --features {}", "search x --database {}",
    "index {}.jsonl --plain --database {place}/x.db", "report {}.jsonl --output {place}/page",
    "tag {place}/songs --from {}.jsonl --pretend", "tag {place}/songs --from {place}/answers.jsonl --genres {}",
])  # fmt: skip
def test_pipes_and_devices_are_never_read(  # H15
    line: str, name: str, place: Path, tmp_path: Path, capsys: Capture
) -> None:
    odd = Path(name.format(place=place))
    for suffix in (".jsonl", ".csv", ".txt"):
        (tmp_path / f"odd{suffix}").symlink_to(odd)
    if line.startswith("evaluate"):
        line += f" --protocol musilingo --output_dir {tmp_path}"
    given = tmp_path / "odd" if "{}." in line else odd
    status = cli.main(line.format(given, place=place).split())
    error = capsys.readouterr().err
    require_one_sentence(line.split()[0], status, error.splitlines()[-1])  # `download` may speak of deno first


TEXTS = ["\x00", "</s><s><pad><mask>", "\u202e\u0301مرحبا", "🎵👪🏽", "a\nb\r\nc\td", "-q", "\ufeffWhat?", " x "]


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_is_asked_and_stays_on_its_line(text: str, place: Path, capsys: Capture) -> None:  # T3, T5, T6
    song = str(place / "song.wav")
    for line in (["ask", str(place / "model"), song, f"--question={text}"],
                 ["decide", "--model", str(place / "decider"), song, f"--choice={text}=jazz,{text}"]):  # fmt: skip
        assert cli.main(line) == 0
        shown = capsys.readouterr()
        assert shown.err == "" and len(shown.out.splitlines()) == (1 if line[0] == "ask" else 2), shown.out


@pytest.mark.parametrize("option", ["--choice=genre=caf\udce9,b", "--score=\udce9=1,2", "--yesno=\udce9", "--yesno= "])
def test_a_typed_question_that_is_no_text_is_a_usage_error(option: str, place: Path, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["decide", "--model", str(place / "decider"), str(place / "song.wav"), option])
    assert ended.value.code == 2 and "Traceback" not in capsys.readouterr().err


def test_a_file_of_questions_that_are_no_text_is_refused(place: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "q.json").write_text('{"genre": {"type": "choice", "criteria": {"\\ud83c": null, "b": null}}}')
    line = ["decide", "--model", str(place / "decider"), str(place / "song.wav"), "--questions"]
    require_one_sentence("decide", cli.main([*line, str(tmp_path / "q.json")]), capsys.readouterr().err, (2,))


@pytest.mark.parametrize("name", ["", "/", "//", "..", "a:b", "*", "~"])
def test_a_dataset_of_any_name_is_refused_in_a_sentence(
    name: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    line = ["evaluate", str(place / "model"), "--dataset", name, "--protocol", "musilingo", "--output_dir", "out"]
    require_one_sentence("evaluate", cli.main(line), capsys.readouterr().err, (2,))


def test_links_in_a_circle_and_names_of_the_longest_kind(place: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a.wav").symlink_to(tmp_path / "b.wav")  # A10
    (tmp_path / "b.wav").symlink_to(tmp_path / "a.wav")
    require_one_sentence("ask", cli.main(LINES["ask"](place, str(tmp_path / "a.wav"))), capsys.readouterr().err, (1,))
    deep = tmp_path.joinpath(*["d" * 250] * 14)
    deep.mkdir(parents=True)
    (deep / f"{'ü' * 120}.wav").symlink_to(place / "song.wav")
    for command in ("ask", "decide"):
        assert cli.main(LINES[command](place, str(deep / f"{'ü' * 120}.wav"))) == 0
    assert cli.main(LINES["features"](place, str(tmp_path / "d"))) == 2
    assert cli.main(LINES["features"](place, str(deep))) == 0


def test_few_descriptors_are_enough_for_many_files(place: Path, tmp_path: Path) -> None:  # R2
    for number in range(200):
        (tmp_path / f"{number}.wav").hardlink_to(place / "song.wav")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, hard))
    try:
        line = LINES["features"](place, str(tmp_path))
        assert cli.main([*line[:-1], str(tmp_path / "features"), "--processes", "1"]) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# In processes of their own


def run(redirections: str, *line: object, **more: str) -> subprocess.CompletedProcess:
    """Run a command by a shell with its streams redirected."""
    script = f'exec "$0" -m descant.cli "$@" {redirections}'
    command = ["sh", "-c", script, sys.executable, *map(str, line)]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300, **more)


SCORE = ("score", "--protocol", "musilingo", "{place}/answers.jsonl")
ABSENT = ("score", "--protocol", "musilingo", "absent.jsonl")
SHOWN = ("skill",)  # at once, whereas scores take the libraries of models


@pytest.mark.parametrize(
    ("redirections", "line", "status", "shown", "said"),
    [
        (">&-", SHOWN, 0, False, "stdout is closed: no results are shown\n"),
        ("2>&-", SHOWN, 0, True, ""),
        ("<&- >&- 2>&-", SCORE, 0, False, ""),
        ("2>&-", ABSENT, 2, False, ""),  # never among the results
        (">&- 2>&-", ABSENT, 2, False, ""),
    ],
)
def test_closed_streams_change_nothing_else(
    redirections: str, line: tuple[str, ...], status: int, shown: bool, said: str, place: Path
) -> None:
    done = run(redirections, *(part.format(place=place) for part in line))
    assert (done.returncode, bool(done.stdout), done.stderr) == (status, shown, said)


@pytest.mark.reliability
def test_no_home_no_locale_and_a_folder_that_cannot_be_written(place: Path, tmp_path: Path) -> None:  # R4, R6
    song = tmp_path / "夜に.wav"
    song.symlink_to(place / "song.wav")
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "HF_HOME", "LANG")}
    environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run("<&-", "ask", place / "model", song, "-q", "Größe?", "--json", env=environment, cwd="/proc/1")
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout.encode("ascii"))
    assert answer["question"] == "Größe?" and os.fsencode(answer["audio"]) == os.fsencode(song)
