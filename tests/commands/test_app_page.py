"""`descant app` as a program, for the real clients of its API and of its tools, and for a reader in a real browser."""

import asyncio
import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from browser_page import Page
from tiny import save_tiny_decider, write_song

from descant.answering.listener import Listener
from descant.data.audio import AudioError
from descant.doors.space import write_space

pytestmark = pytest.mark.browser
for package in ("gradio", "mcp"):
    pytest.importorskip(package, reason="the page takes pip install descant[app]")

FREE, TYPED = "Which instruments play?", "What is the genre?"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "app.md"
TOKEN = "a-token-of-24-characters"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
HACK = "document.documentElement.dataset.hacked = 1"
EVIL = f"<img src=x onerror='{HACK}'> **bold** [a](javascript:{HACK}) <script>{HACK}</script>"
JUNK = b"junk, and no sound at all" * 420_000  # 10 MB


class App(NamedTuple):
    address: str
    listener: Listener
    song: Path
    folder: Path
    process: subprocess.Popen[str]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("app")
    model = save_tiny_decider(folder / "tiny")
    song = write_song(folder / f"{EVIL.partition('/')[0]}.wav", 25.0, rate=8_000)
    (folder / "junk.mp3").write_bytes(JUNK)
    (folder / "temporary").mkdir()
    settings = {"OMP_NUM_THREADS": "1", "DESCANT_TOKEN": TOKEN, "TMPDIR": str(folder / "temporary")}
    with subprocess.Popen(
        [sys.executable, "-m", "descant.cli", "app", str(model), "--port", "0", "--max_megabytes", "16"],
        stderr=subprocess.PIPE, text=True, env=os.environ | settings,
    ) as process:  # fmt: skip
        try:
            assert process.stderr
            found = re.search(r"tiny listens at (http://127\.0\.0\.1:\d+) ", process.stderr.readline())
            assert found
            yield App(found[1], Listener.load(model), song, folder, process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 0
            assert process.stderr.read() == ""
            assert list((folder / "temporary").glob("descant-app-*")) == []  # no upload is left
        finally:
            process.kill()


def junk_sentence(app: App) -> str:
    with pytest.raises(AudioError) as raised:
        app.listener.ask(app.folder / "junk.mp3", FREE)
    return f"audio: {raised.value.reason}"


def test_the_client_of_the_api_gets_the_answers_of_ask(app: App) -> None:
    from gradio_client import Client, exceptions, handle_file

    client = Client(app.address, headers=BEARER, verbose=False)
    sound = handle_file(app.song)
    free, said = client.predict(sound, FREE, api_name="/ask"), app.listener.ask(app.song, FREE)
    assert (free["answer"], free["heard"]) == (said.prediction, said.heard)
    typed = client.predict(audio=sound, question=TYPED, api_name="/ask")
    assert set(typed["probabilities"]) == {"jazz", "rock", "piano"}
    decided = client.predict(sound, "mood", ["happy", "sad"], api_name="/decide")
    assert sum(decided["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    described = client.predict(sound, api_name="/describe")
    assert described["caption"]["text"] == app.listener.describe(app.song)["caption"]["text"]
    with pytest.raises(exceptions.AppError, match="not sound that can be read") as raised:
        client.predict(handle_file(app.folder / "junk.mp3"), FREE, api_name="/ask")
    assert str(raised.value) == junk_sentence(app)


def test_the_python_of_the_page_runs(app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(app.song, tmp_path / "song.mp3")
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    block = block.replace('"http://127.0.0.1:7860"', f"{app.address!r}, headers={BEARER}")
    exec(compile(block, "docs/app.md", "exec"), names)
    assert names["answer"]["probability"] and names["mood"]["option"] in ("happy", "sad")


def test_a_space_runs_as_it_is_written(tmp_path: Path) -> None:
    write_space(tmp_path, "tester/listens", "box")
    settings = {"OMP_NUM_THREADS": "1", "GRADIO_SERVER_PORT": "0"}
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "app.py")], stderr=subprocess.PIPE, text=True, env=os.environ | settings
    ) as process:
        try:
            assert process.stderr
            found = re.search(r"box listens at http://0\.0\.0\.0:(\d+) ", process.stderr.readline())
            assert found
            with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/", timeout=120) as shown:
                assert b"descant" in shown.read()
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 0
        finally:
            process.kill()


def test_a_client_of_the_tools_gets_the_same(app: App) -> None:
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    def as_url(content: bytes) -> str:
        return f"data:audio/wav;base64,{base64.b64encode(content).decode()}"

    async def talk() -> None:
        async with (
            streamablehttp_client(f"{app.address}/gradio_api/mcp/", headers=BEARER, timeout=120) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            assert set(tools) == {"ask", "decide", "describe"}
            assert tools["decide"].inputSchema["required"] == ["audio", "question"]
            assert "answer one question" in (tools["ask"].description or "")
            sound = as_url(app.song.read_bytes())
            answers = [
                await session.call_tool("ask", {"audio": sound, "question": FREE}),
                await session.call_tool("decide", {"audio": sound, "question": "mood", "options": ["happy", "sad"]}),
                await session.call_tool("describe", {"audio": sound}),
            ]
            asked, decided, described = (json.loads(one.content[0].text) for one in answers)
            assert asked["answer"] == app.listener.ask(app.song, FREE).prediction
            assert decided["option"] in ("happy", "sad") and described["decisions"]["genre"]
            for audio, sentence in (
                (as_url(JUNK[:99]), "is not sound that can be read"), ("https://example.org/a.wav", "no address"),
                ("/etc/passwd", "provide a url"), (f"{app.address}/gradio_api/file=/etc/passwd", "no file that was"),
            ):  # fmt: skip
                refused = await session.call_tool("ask", {"audio": audio, "question": FREE})
                assert refused.isError and sentence in refused.content[0].text

    asyncio.run(talk())


def test_nothing_is_there_without_the_token_or_for_a_page_of_another_host(app: App) -> None:
    for path, headers, status in (
        ("/", {}, 401), ("/gradio_api/mcp/", {}, 401), ("/config", BEARER | {"Origin": "http://evil.example"}, 403),
        ("/monitoring", BEARER, 404), ("/gradio_api/file=/etc/passwd", BEARER, 403),
    ):  # fmt: skip
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(urllib.request.Request(app.address + path, headers=headers), timeout=120)
        assert raised.value.code == status


ANSWERS = "document.querySelectorAll('.dc-turn .dc-answer').length"


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_reader_uploads_asks_and_asks_again(app: App) -> None:
    page = Page(password=TOKEN)
    try:
        page.open_address(app.address)
        page.wait_for("document.querySelector('#dc-sound input[type=file]') !== null")
        lowest = "document.querySelector('{}').getBoundingClientRect().bottom".format
        microphone, whole = lowest('#dc-sound [aria-label="Record audio"]'), lowest("#dc-sound")
        page.wait_for(f"{microphone} <= {whole}")  # in sight
        page.upload("#dc-sound input[type=file]", app.song)
        page.wait_for("document.querySelectorAll('.dc-card .dc-bar').length > 2")
        page.wait_for("document.querySelectorAll('.dc-window').length === 3")
        hear_a_window(page)
        page.fill("#dc-question textarea", TYPED)
        page.wait_for(f"{ANSWERS} === 1")
        page.wait_for("document.querySelectorAll('.dc-turn .dc-bar').length === 3")
        page.wait_for("/Rests most on|No second/.test(document.querySelector('.dc-turn').textContent)")
        if page.run("document.querySelector('.dc-show') !== null"):
            page.wait_for("document.querySelectorAll('.dc-evidence i').length > 0")
        page.fill("#dc-question textarea", EVIL)
        page.wait_for(f"{ANSWERS} === 2")
        asked = "document.querySelectorAll('.dc-turn .dc-question')"
        page.wait_for(f"{asked}[0].textContent === {json.dumps(EVIL)}")  # as text, the newest first
        page.wait_for(f"{asked}[1].textContent === {json.dumps(TYPED)}")
        for size in ("wide", "narrow"):
            for scheme in ("light", "dark"):
                page.show_as(size, scheme)
                page.settle()
                page.wait_for("document.documentElement.scrollWidth <= innerWidth")
        assert page.run(ANSWERS) == 2  # they stay
        page.click("#dc-sound button[aria-label=Clear]")
        page.upload("#dc-sound input[type=file]", app.folder / "junk.mp3")
        refusal = page.wait_for("(document.querySelector('.dc-refusal') || {}).textContent")
        assert refusal == junk_sentence(app)
        assert page.run("!document.documentElement.dataset.hacked && document.querySelector('img[src=x]') === null")
        outside = [one for one in page.requests if not one.startswith((app.address, "data:", "blob:"))]
        assert outside == []
        # Of an upload that ended before gradio's page asked how far it is, gradio knows nothing any more.
        assert [one for one in page.errors if "/gradio_api/upload_progress?" not in one] == []
    finally:
        page.close()


def hear_a_window(page: Page) -> None:
    """Click the second window, which plays from there: slowly, so that it still plays when it is looked at."""
    audio = "document.querySelector('#dc-sound audio')"
    page.wait_for(f"{audio}?.readyState > 0")
    page.run(f"{audio}.playbackRate = 0.1")
    page.click(".dc-window:nth-of-type(2)")
    page.wait_for(f"!{audio}.paused && {audio}.currentTime >= 10 && {audio}.currentTime < 20")
    page.wait_for("document.querySelector('.dc-window.dc-playing')?.dataset.start === '10.000'")
    page.run(f"{audio}.pause()")
