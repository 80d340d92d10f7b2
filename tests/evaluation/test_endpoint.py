"""An endpoint asked over loopback: what is sent, retries, refusals, costs, and that the key stays secret."""

import base64
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import soundfile
from tiny import climb

from descant.cli import main
from descant.data.audio import AudioError
from descant.data.corpus import load_corpus
from descant.evaluation import caption_sets
from descant.evaluation import endpoint as room
from descant.evaluation.choosing import Asked, Choice, to_wav
from descant.evaluation.endpoint import Endpoint, EndpointChooser, EndpointError, RequestError, read_upload, read_wait

KEY = "sk-never-shown-0123456789"
SOUND = to_wav(climb(1.0, 16_000, 220.0))
ASKED = Asked("What is the genre?", ("rock", "jazz", "pop"))


class Server:
    """Answers with `answer(body)`: a text, (status, message, headers), a whole JSON object, or its bytes."""

    def __init__(self) -> None:
        self.answer: Any = lambda body: "(B)"
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.keys: list[str | None] = []

    def reply(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        self.bodies.append(body)
        self.paths.append(handler.path)
        self.keys.append(handler.headers["Authorization"])
        given = self.answer(body)
        status, headers, content = 200, {}, given
        if isinstance(given, tuple):
            status, message, headers = given
            content = {"error": {"message": message}}
        elif isinstance(given, str):
            usage = {"prompt_tokens": 100, "completion_tokens": 5}
            content = {"choices": [{"message": {"content": given}}], "usage": usage}
        sent = content if isinstance(content, bytes) else json.dumps(content).encode()
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(sent))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(sent)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(room, "FIRST_WAIT_S", 0.001)
    scripted = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            scripted.reply(self)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    scripted.url = f"http://127.0.0.1:{http.server_port}/v1"  # type: ignore[attr-defined]
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    yield scripted
    http.shutdown()
    http.server_close()


def test_a_question_is_sent_in_openais_form_and_its_letter_is_read(server: Any) -> None:
    endpoint = Endpoint(server.url + "/", "gpt-x", KEY)
    assert EndpointChooser(endpoint).choose(SOUND, [ASKED]) == [Choice("jazz", said="(B)")]
    (body,), (message,) = server.bodies, server.bodies[0]["messages"]
    sound, text = message["content"]
    assert (body["model"], body["temperature"], server.paths) == ("gpt-x", 0, ["/v1/chat/completions"])
    assert message["role"] == "user" and text == {"type": "text", "text": ASKED.prompt}
    assert sound["input_audio"]["format"] == "wav" and base64.b64decode(sound["input_audio"]["data"]) == SOUND
    assert server.keys == [f"Bearer {KEY}"]


def test_waits_as_long_as_it_is_asked_to_and_counts_what_it_cost(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(room.time, "sleep", waits.append)
    replies = iter([(429, "slow down", {"Retry-After": "7"}), (503, "busy", {}), "(A)"])
    server.answer = lambda body: next(replies)
    endpoint = Endpoint(server.url, "m")
    assert endpoint.ask(SOUND, "wav", "Q?") == "(A)" and waits == [7.0, 0.002]
    cost = endpoint.usage.to_record(2.5, 10.0)
    assert cost == {"requests": 3, "retries": 2, "input_tokens": 100, "output_tokens": 5, "price": 0.0003}
    assert endpoint.usage.to_record(None, None)["price"] is None
    server.answer = lambda body: (429, "tomorrow", {"Retry-After": "86400"})
    with pytest.raises(EndpointError, match="asks to wait 86400 s"):
        endpoint.ask(SOUND, "wav", "Q?")


def test_odd_counts_of_tokens_and_an_answer_of_brackets_end_no_run(server: Any) -> None:
    for usage in ({"prompt_tokens": {"audio": 5}}, {"input_tokens": "many"}, {"output_tokens": float("nan")}):
        server.answer = lambda body, usage=usage: {"choices": [{"message": {"content": "(A)"}}], "usage": usage}
        endpoint = Endpoint(server.url, "m")
        assert endpoint.ask(SOUND, "wav", "Q?") == "(A)"
        assert (endpoint.usage.requests, endpoint.usage.input_tokens, endpoint.usage.output_tokens) == (1, 0, 0)
    server.answer = lambda body: b"[" * 200_000
    with pytest.raises(RequestError, match="nested too deeply"):
        Endpoint(server.url, "m").ask(SOUND, "wav", "Q?")


def test_a_refused_sound_is_a_refused_answer_and_another_refusal_an_error(server: Any) -> None:
    chooser = EndpointChooser(Endpoint(server.url, "m"))
    server.answer = lambda body: (422, "no music heard", {})
    assert chooser.choose(SOUND, [ASKED]) == [Choice(said="no music heard")]
    server.answer = lambda body: (400, "temperature is not followed", {})
    assert chooser.choose(SOUND, [ASKED]) == [Choice(error="status 400: temperature is not followed")]
    server.answer = lambda body: {"odd": 1}
    assert chooser.choose(SOUND, [ASKED])[0].error == "the answer is no chat completion"
    server.answer = lambda body: {"choices": [{"message": {"content": None}}]}
    assert chooser.choose(SOUND, [ASKED]) == [Choice()]


def test_the_key_is_in_no_message_log_or_file(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", KEY)
    replies = iter([(500, f"bad key {KEY}", {})])
    server.answer = lambda body: next(replies, (401, f"Incorrect API key provided: {KEY}", {}))
    assert main(quiz(tmp_path, server.url, "--api_key_env", "MY_KEY", "--parallel", "1")) == 2
    said = capsys.readouterr()
    assert "refuses every request (status 401: Incorrect API key provided: …)" in said.err
    written = "".join(path.read_text() for path in tmp_path.rglob("*.jsonl")) + said.out + said.err + caplog.text
    assert KEY not in written and server.keys[0] == f"Bearer {KEY}"
    with pytest.raises(ValueError, match="--endpoint: give http://HOST/v1") as refused:
        Endpoint(f"http://user:{KEY}@host/v1", "m")
    assert KEY not in str(refused.value)


def test_a_server_that_is_gone_ends_the_run_and_a_redirect_is_not_followed(server: Any) -> None:
    server.answer = lambda body: (307, "", {"Location": "http://127.0.0.1:9/v1"})
    assert EndpointChooser(Endpoint(server.url, "m", KEY)).choose(SOUND, [ASKED])[0].error == "status 307"
    gone = Endpoint("http://127.0.0.1:9/v1", "m")
    for _ in range(2):
        with pytest.raises(RequestError, match="not answered in 6 attempts"):
            gone.ask(SOUND, "wav", "Q?")
    with pytest.raises(EndpointError, match="http://127.0.0.1:9/v1 does not answer"):
        gone.ask(SOUND, "wav", "Q?")


def test_a_server_of_descant_gives_probabilities(server: Any) -> None:
    answer = {"probabilities": {"rock": 0.2, "jazz": 0.7, "pop": 0.1}}
    server.answer = lambda body: {"answers": dict.fromkeys(body["questions"], answer)}
    chooser = EndpointChooser(Endpoint(server.url, "box"), by_words=False)
    assert chooser.choose(SOUND, [ASKED] * 65) == [Choice("jazz", 0.7)] * 65
    assert server.paths == ["/v1/systemone"] * 2
    assert server.bodies[0]["questions"]["0"]["criteria"] == {"rock": None, "jazz": None, "pop": None}


def test_sounds_are_sent_as_wav_or_mp3(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "s.ogg", climb(1.0, 16_000, 220.0), 16_000)
    content, kind = read_upload(str(tmp_path / "s.ogg"))
    assert kind == "wav" and content[:4] == b"RIFF" and abs(len(content) - 32_044) < 2000
    assert read_upload(b"ID3rest") == (b"ID3rest", "mp3") and read_upload(SOUND) == (SOUND, "wav")
    assert read_upload(b"\xff\xfbrest") == (b"\xff\xfbrest", "mp3")
    with pytest.raises(AudioError):  # AAC begins alike, and would be sent as what it is not
        read_upload(b"\xff\xf1rest")
    assert read_wait("3") == 3.0 and read_wait("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0 and read_wait("soon") == 0.0


def quiz(folder: Path, url: str, *more: str) -> list[str]:
    rows = []
    for number in range(3):
        (folder / f"s{number}.wav").write_bytes(to_wav(climb(1.0, 16_000, 220.0 * 1.2**number)))
        rows.append(
            {"audio": f"s{number}.wav", "question": "Which?", "choices": ["a", "b"], "answer": "ab"[number % 2]}
        )
    (folder / "quiz.json").write_text(json.dumps(rows))
    return ["evaluate", "--benchmark", str(folder / "quiz.json"), "--endpoint", url, "--model", "m", "--output_dir",
            str(folder / "out"), *more]  # fmt: skip


def test_the_command_asks_an_endpoint_and_goes_on_where_it_ended(
    server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[int] = []

    def fail_late(body: dict[str, Any]) -> Any:
        seen.append(1)
        return "(A)" if len(seen) < 4 else (403, "quota", {})

    server.answer = fail_late
    assert main(quiz(tmp_path, server.url, "--parallel", "1")) == 2
    server.answer = lambda body: "(A)"
    before = len(server.bodies)
    assert main(quiz(tmp_path, server.url, "--controls", "--price_in", "1", "--price_out", "2")) == 0
    # One whole clip of two orders was kept; of the controls, another clip's sound was asked about the same already.
    assert len(server.bodies) - before == 6 - 2 + 6
    result = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert result["accuracy"] == 0.5 and result["changed"] == 1.0
    assert result["cost"]["requests"] == 10 and result["cost"]["price"] == pytest.approx(10 * 110 / 1e6)
    assert "10 requests, 0 retries, 1000 tokens in, 50 tokens out" in capsys.readouterr().out
    assert main(["evaluate", "--benchmark", "demo", "--endpoint", server.url]) == 2
    assert main(["evaluate", "--benchmark", "demo", "--model", "m"]) == 2
    assert main(quiz(tmp_path, server.url, "--num_beams", "2")) == 2


def test_a_slow_answer_keeps_no_other_from_the_disk(server: Any, tmp_path: Path) -> None:
    slow = base64.b64encode(to_wav(climb(1.0, 16_000, 220.0))).decode()
    kept: list[int] = []

    def answer(body: dict[str, Any]) -> str:
        if body["messages"][0]["content"][0]["input_audio"]["data"] == slow and not kept:
            for _ in range(300):
                lines = [line for log in (tmp_path / "out").glob(".choices-*") for line in log.open()]
                if len(lines) == 4:  # both orders of the two other clips
                    break
                threading.Event().wait(0.01)
            kept.append(len(lines))
        return "(A)"

    server.answer = answer
    assert main(quiz(tmp_path, server.url, "--parallel", "2")) == 0 and kept == [4]


def test_a_data_set_is_asked_with_controls_and_scored_by_a_protocol(
    server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = []
    for number in range(3):
        (tmp_path / f"s{number}.wav").write_bytes(to_wav(climb(1.0, 16_000, 220.0 * 1.2**number)))
        row = {"audio": f"s{number}.wav", "question": "What is the genre?", "answer": "jazz", "question_type": "genre"}
        rows.append(row | {"split": "test"})
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    described = "Describe this music in one or two sentences."
    server.answer = lambda body: (
        "A song." if body["messages"][0]["content"][1]["text"] == described else "It is jazz."
    )
    arguments = ["evaluate", "--dataset", str(tmp_path / "own.jsonl"), "--protocol", "musilingo", "--endpoint",
                 server.url, "--model", "m", "--output_dir", str(tmp_path / "out"), "--controls"]  # fmt: skip
    assert main(arguments) == 0
    # Another clip's sound was asked about the same already; without the question, each clip is described once.
    assert len(server.bodies) == 3 + 3 + 1 + 3
    result = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert (result["n"], result["exact"], result["model"], result["cost"]["requests"]) == (3, 1.0, "m", 10)
    assert result["controls"]["silence"]["exact"]["gap"] == 0.0
    assert result["controls"]["no_question"]["exact"]["score"] == 0.0 and len(result["intervals"]["exact"]) == 2
    assert "exact is explained by text alone" in capsys.readouterr().out
    server.answer = lambda body: (401, "no", {})
    assert main(arguments) == 0 and len(server.bodies) == 10  # every answer is on disk


def test_song_describers_csv_is_captioned_and_scored(server: Any, tmp_path: Path) -> None:
    (tmp_path / "audio" / "00").mkdir(parents=True)
    lines = ["caption_id,track_id,caption,is_valid_subset,familiarity,artist_id,album_id,path,duration"]
    for number in range(3):
        sound = to_wav(climb(1.0, 16_000, 220.0 * 1.2**number))
        (tmp_path / "audio" / "00" / f"{number}.2min.mp3").write_bytes(sound)
        lines += [
            f"{number}{valid},{number},A slow piano,{valid},0,1,1,00/{number}.mp3,200" for valid in (True, False)
        ]
    (tmp_path / "song_describer.csv").write_text("\n".join(lines) + "\n")
    server.answer = lambda body: "A slow piano"
    table = str(tmp_path / "song_describer.csv")
    arguments = ["--endpoint", server.url, "--model", "m", "--output_dir", str(tmp_path / "out")]
    assert main(["evaluate", "--benchmark", table, *arguments]) == 0
    result = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert (result["n"], result["protocol"], result["rougeL"]) == (3, "lp_musiccaps", 1.0)
    assert server.bodies[0]["messages"][0]["content"][1]["text"] == "Describe this music in one or two sentences."


def test_music_instruct_is_written_with_its_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "musiccaps-public.csv").write_text(
        "ytid,start_s,end_s,caption,aspect_list,is_audioset_eval\nabc,30,40,a song,['rock'],True\n"
    )
    row = {"ytid": "abc", "question": "What is the genre?", "answer": "Rock.", "question_type": "genre"}
    rows = [row | {"is_audioset_eval": evaluated} for evaluated in (True, False)]
    (tmp_path / "MusicInstructShort.json").write_text(json.dumps({"QA": rows}))
    monkeypatch.setattr(caption_sets, "MUSICCAPS", str(tmp_path / "musiccaps-public.csv"))
    monkeypatch.setattr(caption_sets, "MUSIC_INSTRUCT", str(tmp_path / "MusicInstructShort.json"))
    table = caption_sets.write_caption_set("musicinstruct", "musicinstruct", tmp_path / "out")
    (one,) = load_corpus(str(table), ["all"]).rows("all", "test")
    assert (one.clip_id, one.start_s, one.question, one.answer) == ("[abc]-[30-40]", 30.0, row["question"], "Rock.")
