"""Annotations are found by path, folder, URL and Hub id."""

import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from descant.data.annotation_sources import locate
from descant.publish.hub import NetworkError


def test_file_is_taken_whatever_its_name(tmp_path):
    (tmp_path / "x.json").touch()
    assert locate(tmp_path / "x.json", [".csv"]) == [tmp_path / "x.json"]


def test_folder_gives_the_files_of_the_most_exact_ending(tmp_path):
    for name in ("qa_short.json", "qa_long.json", "sub/other.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert locate(tmp_path, ["_short.json", ".json"]) == [tmp_path / "qa_short.json"]
    assert locate(tmp_path, ["both.json", ".json"]) == [tmp_path / "qa_long.json", tmp_path / "qa_short.json"]
    with pytest.raises(ValueError, match=r"holds no file that ends in \.parquet"):
        locate(tmp_path, [".parquet"])


def test_url_is_fetched_and_keeps_its_suffix(tmp_path, monkeypatch):
    (tmp_path / "caps.csv").write_text("a,b\n")

    class Files(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=tmp_path)

        def log_message(self, *_: object) -> None: ...

    monkeypatch.setattr("datasets.config.DOWNLOADED_DATASETS_PATH", tmp_path / "downloads")
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        (path,) = locate(f"{address}/caps.csv", [".csv"])
        assert path.suffix == ".csv" and path.read_text() == "a,b\n"
        assert locate(f"{address}/caps.csv", [".csv"]) == [path]
        with pytest.raises(ValueError, match=r"none\.csv: cannot be fetched"):
            locate(f"{address}/none.csv", [".csv"])
        server.shutdown()


def test_hub_dataset_gives_its_annotation_file(local_hub, tmp_path):
    local_hub.api().create_repo("tester/caps", repo_type="dataset")
    upload = {"repo_id": "tester/caps", "repo_type": "dataset"}
    local_hub.api().upload_file(path_or_fileobj=b"a,b\n", path_in_repo="musiccaps-public.csv", **upload)
    code = "from descant.data.annotation_sources import locate; print(locate('tester/caps', ['.csv'])[0].read_text())"
    done = local_hub.run(tmp_path / "home", "-c", code)
    assert done.stdout.startswith("a,b"), done.stderr


@pytest.mark.parametrize("source", ["nothing here", "../up", "a/b/c"])
def test_what_is_nothing_is_refused(source):
    with pytest.raises(ValueError, match="no such file, folder or Hub dataset"):
        locate(source, [".csv"])


def test_hub_out_of_reach_is_told_in_one_sentence(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise NetworkError("no route to host")

    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", fail)
    with pytest.raises(ValueError, match="neither a file here nor a Hub dataset"):
        locate("tester/caps", [".csv"])
