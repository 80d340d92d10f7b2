"""`descant serve` as a program, asked by the real `openai` client, and its settings."""

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tiny import save_tiny_decider, write_song

from descant import cli

for package in ("fastapi", "uvicorn", "openai"):
    pytest.importorskip(package, reason="the server takes pip install descant[serve]")


PAGE = (Path(__file__).resolve().parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")


def test_the_program_answers_openais_client_until_a_signal_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openai

    folder = save_tiny_decider(tmp_path / "box")
    song = write_song(tmp_path / "song.wav", 12.0, rate=8_000)
    song.rename(tmp_path / "song.mp3")  # readers go by the content
    monkeypatch.chdir(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-m", "descant.cli", "serve", str(folder), "--port", "0", "--max_megabytes", "1"],
        stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as server:  # fmt: skip
        try:
            assert server.stderr
            found = re.search(r"box answers at (http://127\.0\.0\.1:\d+)/v1 ", server.stderr.readline())
            assert found
            names = run_page(found[1])
            client, message, whole = names["client"], names["message"], names["answer"]
            client = client.with_options(max_retries=0, timeout=300)
            assert [model.id for model in client.models.list()] == ["box"]
            assert whole.choices[0].message.content and whole.descant["decided"]["text"]
            stream = client.chat.completions.create(model="box", messages=[message], stream=True)
            pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
            assert "".join(pieces) == whole.choices[0].message.content
            with pytest.raises(openai.BadRequestError, match="logprobs is not followed here"):
                client.chat.completions.create(model="box", messages=[message], logprobs=True)
            message["content"][0]["input_audio"]["data"] = base64.b64encode(b"junk" * 99).decode()
            with pytest.raises(openai.UnprocessableEntityError, match="audio: is not sound that can be read"):
                client.chat.completions.create(model="box", messages=[message])
            refuse_a_large_body(found[1])
            server.send_signal(signal.SIGTERM)
            assert server.wait(120) == 0
            assert server.stderr.read() == ""
        finally:
            server.kill()


def run_page(address: str) -> dict[str, Any]:
    """Run what the page of the server shows; the names that its Python defines."""
    page = PAGE.replace("http://127.0.0.1:8000", address)
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/serve.md", "exec"), names)
    shells = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(shells) == 2
    if shutil.which("curl"):
        printed = [subprocess.run(["sh", "-c", shell], capture_output=True, check=True).stdout for shell in shells]
        chat, typed = map(json.loads, printed)
        assert chat["choices"][0]["message"]["content"] and 0 < typed["answers"]["drums"]["noul"] < 1
    return names


def refuse_a_large_body(address: str) -> None:
    """What is too large is dropped as it comes, so that a client that sends it all reads why."""
    body = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/v1/systemone", b"{" + b" " * 2**22, body)
    with pytest.raises(urllib.error.HTTPError, match="413") as raised:
        urllib.request.urlopen(request, timeout=300)
    assert json.load(raised.value)["error"]["message"] == "the request has more than 1048576 bytes"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 is reached by others: set DESCANT_TOKEN, or give --token_file"),
        (["--host", "example.org"], "is reached by others"),
        (["--token_file", "nowhere"], "holds no token that can be read"),
        (["no/such/model-anywhere"], "no/such/model-anywhere"),
        (["--port", "99999"], "is more than 65535"),
        (["--max_seconds", "-1"], "is no number of seconds"),
        (["--timeout", "0"], "argument --timeout: '0' would refuse every request"),
    ],
)
def test_what_cannot_be_served_is_refused_before_work(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DESCANT_TOKEN", raising=False)
    try:
        status = cli.main(["serve", *arguments])
    except SystemExit as ended:
        status = int(ended.code or 0)
    assert status == 2 and sentence in capsys.readouterr().err


def test_an_address_that_is_taken_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["serve", "--port", str(port)]) == 2
    assert f"--host 127.0.0.1 --port {port}: cannot be listened at" in capsys.readouterr().err
