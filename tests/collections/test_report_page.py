"""The page of tracks: nothing that a user gave runs or leaves its place, links are relative, pictures are drawn."""

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
from made_up import describe

from descant import cli
from descant.collections.report import (
    draw_spectrogram,
    render_page,
    show_answers,
    show_caption,
    show_description,
    write_report,
)

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028&amp;\"'"


def data_of(page: str) -> Any:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def write_tone(path: Path, seconds: float = 1.0, hertz: float = 440.0) -> None:
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * hertz * np.arange(int(16_000 * seconds)) / 16_000), 16_000)


def write_lines(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def test_nothing_that_a_user_gave_ends_the_data_or_runs() -> None:
    answers = [{"question": EVIL, "prediction": EVIL}]
    tracks = [show_description(describe(EVIL, caption=EVIL)), show_answers(EVIL, answers)]
    page = render_page(EVIL, tracks)
    assert page.count("<script") == page.count("</script>") == 2 and "<img" not in page
    assert [one["name"] for one in data_of(page)] == [EVIL, EVIL] and page.count(html.escape(EVIL)) == 2
    script = page.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page and "innerHTML" not in page
    policy = re.search(r'content="(default-src [^"]*)"', page)[1]
    assert "default-src 'none'" in policy and "http" not in policy


def test_the_page_asks_nobody_for_anything() -> None:
    page = render_page("x", [show_description(describe("a.mp3"))])
    assert not re.search(r"https?:|//\w|@import|url\(|fetch\(|XMLHttp", page.replace("// ", ""))


def test_a_track_is_shown_with_probabilities_and_windows() -> None:
    track = show_description(describe("a.mp3"))
    assert [one["name"] for one in track["decisions"][:7]] == [
        "genre", "mood", "energy", "tempo", "metre", "voice", "sound",
    ]  # fmt: skip
    genre, drums = (next(one for one in track["decisions"] if one["name"] == name) for name in ("genre", "drums"))
    assert genre["options"][0] == ["jazz", 0.9] and genre["sure"] and track["heard"] == [[0.0, 30.0]]
    assert (drums["said"], drums["options"]) == ("no", [["yes", 0.1]])
    assert track["caption"] == "A quiet evening. A second sentence."
    assert show_caption({"text": "Rock.", "contradicts": ["genre"]}) == "Rock. (contradicts genre)"
    assert track["measured"] == "92 BPM, C sharp minor, -14.0 LUFS" and track["genre"] == "jazz"
    assert next(one for one in track["decisions"] if one["name"] == "energy")["options"][0] == ["calm", 0.7]


def test_answers_are_shown_by_recording_with_references(tmp_path: Path) -> None:
    write_tone(tmp_path / "sound" / "a b.wav")
    lines = [
        {"audio": "sound/a b.wav", "start_s": 0.0, "end_s": 1.0, "question": "Which genre?", "prediction": "jazz",
         "references": ["swing"], "score": -0.5, "error": None},
        {"audio": "sound/a b.wav", "start_s": None, "question": None, "prediction": None, "error": "bad"},
        {"audio": 3},
    ]  # fmt: skip
    answers = write_lines(tmp_path / "answers.jsonl", *lines)
    answers.write_text(answers.read_text() + '{"audio": "torn')
    count, problems = write_report(answers, tmp_path / "out")
    (track,) = data_of((tmp_path / "out" / "report.html").read_text())
    assert count == 1 and [problem.row for problem in problems] == [4, None]
    assert "1 records are no answers" in str(problems[1])
    assert track["answers"][0]["references"] == ["swing"] and track["answers"][0]["confidence"] == 0.6065
    assert track["answers"][1]["error"] == "bad" and track["heard"] == [[0.0, 1.0]] and track["duration"] == 1.0
    assert track["sound"] == "../sound/a%20b.wav" and (tmp_path / "out" / track["picture"]).is_file()


def test_links_lead_from_the_page_to_the_sound(tmp_path: Path) -> None:
    names = ["music/one#1 100%.wav", "gone.wav"]
    write_tone(tmp_path / names[0])
    (tmp_path / "music" / "odd.wav").write_text("no sound")
    records = [describe(name) for name in [*names, "music/odd.wav"]]
    count, problems = write_report(write_lines(tmp_path / "d.jsonl", *records), tmp_path / "deep" / "out")
    page = tmp_path / "deep" / "out" / "report.html"
    one, gone, odd = data_of(page.read_text())
    assert (page.parent / unquote(one["sound"])).resolve() == (tmp_path / names[0]).resolve()
    assert gone["sound"] is None and odd["picture"] is None and odd["sound"] and count == 3
    assert [problem.file for problem in problems] == ["gone.wav", "music/odd.wav"]
    assert str(problems[1]).count("odd.wav") == 1


def test_another_song_of_the_same_name_has_a_picture_of_its_own(tmp_path: Path) -> None:
    table = write_lines(tmp_path / "d.jsonl", describe("a.wav"))
    pictures = []
    for hertz in (300.0, 300.0, 3000.0):
        if hertz > 300 or not pictures:
            write_tone(tmp_path / "a.wav", 0.7, hertz)
        write_report(table, tmp_path / "out")
        (track,) = data_of((tmp_path / "out" / "report.html").read_text())
        pictures.append((tmp_path / "out" / track["picture"]).read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]
    assert len(list((tmp_path / "out" / "pictures").iterdir())) == 2


def test_one_file_holds_all_of_a_few_tracks(tmp_path: Path) -> None:
    write_tone(tmp_path / "a.wav")
    write_report(write_lines(tmp_path / "d.jsonl", describe("a.wav")), tmp_path / "out", single_file=True)
    (track,) = data_of((tmp_path / "out" / "report.html").read_text())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.html"]
    assert track["sound"].startswith("data:audio/") and track["picture"].startswith("data:image/png;base64,iVBOR")
    many = write_lines(tmp_path / "many.jsonl", *(describe(f"{number}.wav") for number in range(51)))
    with pytest.raises(ValueError, match="50 tracks at most, and .* has 51"):
        write_report(many, tmp_path / "out", single_file=True)


def test_a_tone_is_one_line_in_its_picture_and_the_higher_one_is_higher(tmp_path: Path) -> None:
    rows = []
    for hertz in (300.0, 3000.0):
        write_tone(tmp_path / "tone.wav", 2.0, hertz)
        levels = draw_spectrogram(tmp_path / "tone.wav")
        assert levels.shape == (72, 480) and levels.min() >= 0 and levels.max() == 1
        rows.append(int(levels.mean(axis=1).argmax()))
    assert rows[1] < rows[0]
    write_tone(tmp_path / "short.wav", 0.6)
    assert np.isfinite(draw_spectrogram(tmp_path / "short.wav")).all()


def test_the_command_says_where_the_page_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tone(tmp_path / "elsewhere" / "a.wav")
    table = write_lines(tmp_path / "d.jsonl", describe("a.wav"))
    command = ["report", str(table), "--output", str(tmp_path / "out"), "--no_pictures"]
    assert cli.main(command) == 1 and "a.wav: the sound is not there" in capsys.readouterr().err
    assert cli.main([*command, "--audio_dir", str(tmp_path / "elsewhere"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tracks"] == 1
    assert cli.main(["report", str(write_lines(tmp_path / "x.jsonl", {"a": 1})), "--output", str(tmp_path)]) == 2
