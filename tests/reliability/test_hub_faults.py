"""Faults of the Hub, made by a real server on loopback: each ends in whole files or in one sentence with a way out."""

import hashlib
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hub import LocalHub
from hub_fixtures import expect_silence, take_for_the_hub
from huggingface_hub import constants

from descant import hub_client
from descant.hub_client import DeniedError, MissingError, NetworkError, fetch_file, fetch_folder, find_file

REPO = "tester/m"
PATTERNS = ("*.json", "*.safetensors")
WEIGHTS = hashlib.sha256(b"w").digest() * 2000  # 64,000 bytes
FILES = {"config.json": b'{"model_type": "tiny"}', "tokenizer.json": b"[1, 2, 3]" * 200, "model.safetensors": WEIGHTS}
STEPS = ("GET /api/models/.*/revision", "HEAD .*/model.safetensors", "GET .*/model.safetensors")


@pytest.fixture
def hub(local_hub: LocalHub, tmp_path: Path, waits: list[float]) -> LocalHub:
    """Give a Hub with a small model on it."""
    folder = tmp_path / "pushed"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    local_hub.api().create_repo(REPO)
    local_hub.api().upload_folder(repo_id=REPO, folder_path=folder)
    local_hub.requests.clear()
    return local_hub


def fetch() -> Path:
    """Fetch the model, and require that every file is as it was pushed."""
    folder = fetch_folder(REPO, PATTERNS)
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    return folder


def sentence(call: Callable[[], object] = fetch, kind: type[NetworkError] = NetworkError) -> str:
    """Return the message that a call fails with; one line, and with the repository's name."""
    with pytest.raises(kind) as raised:
        call()
    message = str(raised.value)
    assert "\n" not in message and REPO in message and raised.type is kind
    return message


@pytest.mark.parametrize("where", STEPS)
@pytest.mark.parametrize("kind", ["429", "500", "503", "reset"])
def test_errors_that_pass_three_times_are_waited_out(hub: LocalHub, kind: str, where: str) -> None:  # W4, W5, W6
    hub.fail(kind, where, times=3)
    fetch()
    assert not hub.faults[0].times


@pytest.mark.parametrize("where", STEPS[1:])
@pytest.mark.parametrize("kind", ["short", "stalled", "corrupt"])
def test_bodies_that_do_not_arrive_whole_are_fetched_again(  # W6–W9
    hub: LocalHub, kind: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_silence(monkeypatch, kind)
    hub.fail(kind, where, times=1)
    fetch()


def test_a_server_that_says_nothing_once_is_asked_again(hub: LocalHub, waits: list[float], monkeypatch) -> None:  # W9
    expect_silence(monkeypatch, seconds=1.0)
    hub.fail("silent", "GET /api/models", times=1)
    fetch()
    assert len(waits) == 1


def test_a_server_that_says_nothing_is_given_up(waits, monkeypatch, tmp_path: Path) -> None:  # W9
    expect_silence(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        take_for_the_hub(f"http://127.0.0.1:{silent.getsockname()[1]}", monkeypatch, tmp_path / "cache")
        said = sentence()
    assert "could not be reached in 5 attempts (no answer in 0.3 s, which HF_HUB_DOWNLOAD_TIMEOUT can extend)" in said


def test_an_attempt_that_lasted_a_minute_in_silence_is_the_last(hub: LocalHub, waits, monkeypatch) -> None:
    expect_silence(monkeypatch)
    clock = iter(range(0, 10_000, 61))
    monkeypatch.setattr(hub_client, "monotonic", lambda: next(clock))
    hub.fail("silent", "GET /api/models", times=99)
    assert "in 1 attempt (no answer" in sentence()
    assert waits == []


def test_an_endpoint_that_is_down_is_said(waits: list[float], monkeypatch, tmp_path: Path) -> None:  # W1
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    take_for_the_hub(url, monkeypatch, tmp_path / "cache")
    said = sentence()
    assert f"{url} could not be reached in 5 attempts" in said and "refused" in said and "try again later" in said
    assert waits == [1, 2, 4, 8]


def test_what_is_not_there_is_asked_for_once(hub: LocalHub, waits: list[float]) -> None:  # W2
    with pytest.raises(MissingError, match="tester/lost is not on http.*, or is private: .*`hf auth login`"):
        fetch_folder("tester/lost", PATTERNS)
    assert "holds no lost.json on http" in sentence(lambda: fetch_file(REPO, "lost.json"), MissingError)
    assert "has no such revision" in sentence(lambda: fetch_folder(REPO, PATTERNS, revision="v9"), MissingError)
    with pytest.raises(MissingError, match="'a/b/c' is no name of a repository"):
        fetch_folder("a/b/c", PATTERNS)
    assert waits == []


@pytest.mark.parametrize(("status", "said"), [(401, "accept your token"), (403, "does not let you have it")])
def test_missing_rights_are_said_at_once_with_the_way_to_log_in(hub: LocalHub, waits, status: int, said: str) -> None:
    hub.fail(status, times=99)  # W3
    message = sentence(kind=DeniedError)
    assert said in message and "`hf auth login`" in message and "not found" not in message
    assert waits == []


def test_a_gated_repository_says_where_to_ask_for_access(hub: LocalHub) -> None:  # W3
    hub.fail(403, times=99, X_Error_Code="GatedRepo")
    assert f"ask for access on {hub.url}/{REPO}" in sentence(kind=DeniedError)


def test_the_pause_that_a_server_asks_for_is_made(hub: LocalHub, waits: list[float]) -> None:  # W4
    in_a_minute = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 60))
    hub.fail(429, "GET /api/models", Retry_After="7")
    hub.fail(429, "GET /api/models", Retry_After="0", RateLimit='"api";r=0;t=55')
    hub.fail(503, "GET /api/models", Retry_After=in_a_minute)
    fetch()
    assert waits[:1] == [7] and 55 < waits[2] <= 60
    assert waits[1] == 2  # an own word about the pause goes before the limit's


def test_the_hubs_rate_limit_is_waited_for(hub: LocalHub, waits: list[float]) -> None:  # W4
    hub.fail(429, "GET /api/models", RateLimit='"api";r=0;t=55')
    fetch()
    assert waits == [55]


@pytest.mark.parametrize("where", STEPS)
def test_a_pause_of_hours_is_refused(hub: LocalHub, waits: list[float], where: str) -> None:  # W4
    hub.fail(429, where, times=99, Retry_After="86400")
    assert "asks to wait 86400 s" in sentence()
    assert waits == []


def test_a_limit_that_stays_names_the_way_to_a_higher_one(hub: LocalHub) -> None:  # W4
    hub.fail(429, times=99)
    assert "(status 429 Too Many Requests): try again later, or log in with `hf auth login`" in sentence()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_file_that_stays_corrupt_is_refused_by_name_and_not_kept(hub: LocalHub, name: str) -> None:  # W8
    hub.fail("corrupt", f"GET .*/{name}", times=2)
    assert f"{name} arrived damaged twice" in sentence()
    fetch()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_what_was_damaged_in_the_cache_is_fetched_again(hub: LocalHub, name: str) -> None:  # W8
    with (fetch() / name).open("r+b") as file:
        file.write(b"other")
    fetch()


def test_damage_that_cannot_be_mended_offline_is_named(hub: LocalHub, monkeypatch) -> None:
    with (fetch() / "model.safetensors").open("r+b") as file:
        file.write(b"other")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "model.safetensors is damaged on this machine; to fetch it again:" in sentence()


def test_a_cache_without_links_is_checked_by_what_the_hub_names(hub: LocalHub, monkeypatch) -> None:  # W8
    monkeypatch.setattr("huggingface_hub.file_download.are_symlinks_supported", lambda *_: False)
    monkeypatch.setattr("huggingface_hub.file_download.os.symlink", _refuse)
    hub.fail("corrupt", "GET .*/model.safetensors", times=1)
    assert not (fetch() / "model.safetensors").is_symlink()


def _refuse(*_: object, **__: object) -> None:
    raise OSError("no links here")


def test_whole_files_are_read_once(hub: LocalHub, monkeypatch) -> None:
    fetch()
    monkeypatch.setattr(hub_client, "_hash", lambda *_: pytest.fail("read again"))
    assert fetch_file(REPO, "model.safetensors").read_bytes() == WEIGHTS
    fetch()


@pytest.mark.parametrize("kind", ["503", "reset", "silent", "html", "loop"])
def test_the_copy_of_an_earlier_day_serves_where_the_hub_does_not(hub: LocalHub, kind: str, monkeypatch) -> None:
    fetch()
    expect_silence(monkeypatch, kind)
    hub.fail(kind, times=99)
    fetch()
    assert fetch_file(REPO, "config.json").read_bytes() == FILES["config.json"]


def test_offline_mode_takes_what_is_there_and_says_what_is_not(hub: LocalHub, monkeypatch, waits) -> None:
    fetch()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    fetch()
    with pytest.raises(NetworkError, match="tester/other: HF_HUB_OFFLINE forbids to ask"):
        fetch_folder("tester/other", PATTERNS)
    assert "HF_HUB_OFFLINE" in sentence(lambda: fetch_file(REPO, "other.json"))
    assert waits == []


def test_a_file_that_a_repository_has_not_is_none_and_needs_no_network_again(hub: LocalHub, monkeypatch) -> None:
    assert find_file(REPO, "lost.json") is None
    assert find_file(REPO, "config.json") is not None
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_file(REPO, "lost.json") is None
    sentence(lambda: find_file(REPO, "never-asked-for.json"))


@pytest.mark.parametrize("where", STEPS)
def test_a_circle_of_redirects_ends_at_once(hub: LocalHub, waits: list[float], where: str) -> None:  # W10
    hub.fail("loop", where, times=999)
    assert "redirects in a circle: look at HF_ENDPOINT" in sentence()
    assert waits == [] and len(hub.requests) < 60


@pytest.mark.parametrize("where", STEPS[:2])
def test_a_page_in_place_of_an_answer_is_said(hub: LocalHub, where: str) -> None:
    hub.fail("html", where, times=99)
    assert "does not answer as a Hub does: look at HF_ENDPOINT" in sentence()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a key and a certificate that nobody has signed."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", path, "-out", path.with_suffix(".crt")], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


def test_a_certificate_that_nobody_signed_is_said_at_once(certificate, waits, monkeypatch, tmp_path: Path) -> None:
    with LocalHub(certificate) as hub:  # W11
        take_for_the_hub(hub.url, monkeypatch, tmp_path / "cache")
        assert f"the certificate of {hub.url} is not trusted" in sentence()
    assert waits == []


def test_plain_speech_to_a_tls_port_is_one_sentence(certificate, waits, monkeypatch, tmp_path: Path) -> None:  # W11
    with LocalHub(certificate) as hub:
        take_for_the_hub(hub.url.replace("https", "http"), monkeypatch, tmp_path / "cache")
        assert "could not be reached in 5 attempts" in sentence()


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://127.0.0.1", "http://[::1"])
def test_an_address_that_is_none_is_said(waits: list[float], monkeypatch, tmp_path: Path, url: str) -> None:
    take_for_the_hub(url, monkeypatch, tmp_path / "cache")
    assert "HF_ENDPOINT" in sentence()


def test_a_cache_that_cannot_be_written_to_is_named(hub: LocalHub, monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
    assert f"cannot be kept in the cache: Not a directory: {tmp_path / 'file'}" in sentence()


def test_the_first_pause_is_a_setting(hub: LocalHub, waits: list[float], monkeypatch) -> None:
    monkeypatch.setenv(hub_client.WAIT_VARIABLE, "0.5")
    hub.fail(503, "GET /api/models", times=2)
    fetch()
    assert waits == [0.5, 1]
    monkeypatch.setenv(hub_client.WAIT_VARIABLE, "soon")
    with pytest.raises(ValueError, match="DESCANT_HUB_WAIT_S='soon' is no number of seconds"):
        fetch()


def test_errors_of_other_kinds_pass_through(hub: LocalHub, waits: list[float]) -> None:
    for error in (RuntimeError("sizes differ"), KeyError("x"), OSError(28, "full")):
        with pytest.raises(type(error)):
            hub_client.patiently(lambda error=error: (_ for _ in ()).throw(error), REPO)
    assert waits == []


def test_network_errors_inside_other_errors_are_found(hub: LocalHub, waits: list[float]) -> None:
    """Libraries on top of the client wrap its errors in their own."""
    hub.fail(503, times=2)

    def load() -> str:
        try:
            return hub.api().model_info(REPO).id
        except OSError as error:
            raise RuntimeError("cannot be loaded") from error

    assert hub_client.patiently(load, REPO) == REPO
    assert waits == [1, 2]
