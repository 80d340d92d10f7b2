"""`descant push` from the shell: status, address, one sentence for a refusal."""

import json

from tiny import save_tiny_model

from descant import cli


def push(*arguments):
    return cli.main(["push", *map(str, arguments)])


def test_pushed_folder_prints_the_commits_address(local_hub, tmp_path, capsys):
    folder = save_tiny_model(tmp_path / "model")
    (folder / "training_data.json").write_text(json.dumps([{"id": "a/b", "licence": "cc-by-nc-4.0", "clips": 3}]))
    assert push(folder, "tester/m", "--private", "--license", "cc-by-nc-sa-4.0", "--message", "Hello") == 0
    assert capsys.readouterr().out.startswith(f"{local_hub.url}/tester/m/commit/")
    assert local_hub.commits("tester/m")[-1] == "Hello"
    assert b"license: cc-by-nc-sa-4.0" in local_hub.files("tester/m")["README.md"]


def test_refusal_is_one_sentence_and_status_2(local_hub, tmp_path, capsys):
    folder = save_tiny_model(tmp_path / "model")
    assert push(folder, "tester/m") == 2
    assert push(tmp_path, "tester/m") == 2
    assert push(folder, "somebody/m", "--license", "mit") == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0] for line in said if line.startswith("descant")] == ["descant push"] * 3
