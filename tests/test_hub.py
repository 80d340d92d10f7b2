"""The local Hub speaks the protocol of `huggingface_hub`, and its faults look like the real ones."""

from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

REPO = "tester/model"


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "folder"
    (root / "sub").mkdir(parents=True)
    (root / "README.md").write_text("---\nlicense: mit\n---\n# Hello")
    (root / "sub" / "weights.safetensors").write_bytes(bytes(range(256)) * 40)
    return root


@pytest.fixture
def pushed(local_hub, folder):
    local_hub.api().create_repo(REPO)
    local_hub.api().upload_folder(repo_id=REPO, folder_path=folder, commit_message="all of it")
    return local_hub


def test_uploaded_folder_comes_back_byte_for_byte(pushed, folder, tmp_path):
    copy = snapshot_download(REPO, endpoint=pushed.url, cache_dir=tmp_path / "cache", token=False)
    for path in ("README.md", "sub/weights.safetensors"):
        assert Path(copy, path).read_bytes() == (folder / path).read_bytes()
    assert pushed.commits(REPO) == ["initial commit", "all of it"]


def test_repository_listing_names_files_folders_and_hashes(pushed):
    api = pushed.api()
    assert api.list_repo_files(REPO) == ["README.md", "sub/weights.safetensors"]
    rows = {row.path: row for row in api.list_repo_tree(REPO, recursive=True)}
    assert set(rows) == {"README.md", "sub", "sub/weights.safetensors"}
    assert rows["sub/weights.safetensors"].lfs.size == 256 * 40
    assert [c.title for c in api.list_repo_commits(REPO)] == ["all of it", "initial commit"]


def test_unchanged_folder_makes_no_second_commit(pushed, folder):
    pushed.api().upload_folder(repo_id=REPO, folder_path=folder)
    assert len(pushed.commits(REPO)) == 2


def test_commit_on_an_old_parent_is_refused(pushed):
    first = pushed.store.repo("model", REPO).commits[0].oid
    with pytest.raises(HfHubHTTPError, match="412"):
        add = CommitOperationAdd("late.txt", b"late")
        pushed.api().create_commit(REPO, [add], commit_message="late", parent_commit=first)


def test_deleted_folder_is_gone(pushed):
    pushed.api().create_commit(REPO, [CommitOperationDelete("sub/", is_folder=True)], commit_message="less")
    assert list(pushed.files(REPO)) == ["README.md"]


def test_writing_into_a_strange_namespace_is_forbidden(local_hub):
    with pytest.raises(HfHubHTTPError, match="403"):
        local_hub.api().create_repo("somebody/model")


def test_writing_without_a_token_is_unauthorised(pushed):
    with pytest.raises(HfHubHTTPError, match="401"):
        pushed.api(token=False).create_repo("tester/other")


def test_write_access_can_be_asked_for(pushed):
    pushed.store.create("model", "somebody/model", private=False)
    pushed.api().auth_check(REPO, write=True)
    pushed.api().auth_check("somebody/model")
    with pytest.raises(HfHubHTTPError):
        pushed.api().auth_check("somebody/model", write=True)


def test_unknown_repository_is_not_found(local_hub):
    with pytest.raises(RepositoryNotFoundError):
        local_hub.api().repo_info("tester/nothing")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_injected_status_arrives_as_often_as_asked(pushed, status):
    pushed.fail(status, where="POST .*/commit/", times=2)
    add = CommitOperationAdd("new.txt", b"new")
    for _ in range(2):
        with pytest.raises(HfHubHTTPError, match=str(status)):
            pushed.api().create_commit(REPO, [add], commit_message="more")
    pushed.api().create_commit(REPO, [add], commit_message="more")
    assert pushed.commits(REPO)[-1] == "more"


@pytest.mark.parametrize(("kind", "committed"), [("reset", False), ("lost", True)])
def test_broken_connection_differs_by_what_was_done_before_it(pushed, kind, committed):
    pushed.fail(kind, where="POST .*/commit/")
    with pytest.raises(Exception, match="(?i)reset|disconnect|read"):
        pushed.api().create_commit(REPO, [CommitOperationAdd("new.txt", b"new")], commit_message="more")
    assert ("new.txt" in pushed.files(REPO)) == committed


def test_short_answer_is_noticed_by_the_client(pushed, tmp_path):
    pushed.fail("short", where="GET .*/resolve/", times=9)
    with pytest.raises(Exception):  # noqa: B017 - the client's own class for it changed between its releases
        hf_hub_download(REPO, "README.md", endpoint=pushed.url, cache_dir=tmp_path / "cache", token=False)


def test_dataset_is_pushed_loaded_and_streamed_in_another_process(local_hub, tmp_path):
    # Arrow's threads of a stream may abort a process that ends behind it (apache/arrow#45214): this one skips its end.
    code = """
import os
from datasets import Dataset, load_dataset
Dataset.from_dict({"n": [1, 2, 3]}).push_to_hub("tester/numbers")
print(load_dataset("tester/numbers", split="train")["n"][:])
print([row["n"] for row in load_dataset("tester/numbers", split="train", streaming=True)], flush=True)
os._exit(0)
"""
    done = local_hub.run(tmp_path / "home", "-c", code, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["[1, 2, 3]", "[1, 2, 3]"]
