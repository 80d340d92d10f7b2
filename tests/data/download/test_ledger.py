"""The ledger loses no finished line, and says what is still to do."""

import json

import pytest

from descant.data.download.ledger import Ledger, LedgerEntry


def lines(ledger: Ledger) -> list[dict]:
    return [json.loads(line) for line in ledger.path.read_text().splitlines()]


def test_last_line_of_a_clip_counts_and_closing_leaves_one_a_clip(tmp_path):
    with Ledger(tmp_path) as ledger:
        ledger.add(LedgerEntry("b", "network", "reset"))
        ledger.add(LedgerEntry("a", "private"))
        ledger.add(LedgerEntry("b", "removed", attempts=2))
        assert len(lines(ledger)) == 3
        assert Ledger(tmp_path).entries["b"].status == "removed"
    assert [(line["clip_id"], line["status"]) for line in lines(ledger)] == [("a", "private"), ("b", "removed")]


def test_line_torn_by_a_kill_costs_only_itself(tmp_path):
    with Ledger(tmp_path) as ledger:
        ledger.add(LedgerEntry("a", "private"))
    with open(ledger.path, "a") as file:
        file.write('{"clip_id": "b", "sta')
    torn = Ledger(tmp_path)
    assert list(torn.entries) == ["a"]
    torn.add(LedgerEntry("c", "age"))
    assert sorted(Ledger(tmp_path).entries) == ["a", "c"]


def test_pending_are_the_new_and_the_transient_and_on_demand_the_failed(tmp_path):
    ledger = Ledger(tmp_path)
    for status in ("network", "blocked", "private", "removed", "age", "geo", "bad audio"):
        ledger.add(LedgerEntry(status, status))
    clips = ["new", *ledger.entries]
    assert ledger.pending(clips, retry_failed=False) == ["new", "network", "blocked"]
    assert ledger.pending(clips, retry_failed=True) == clips


def test_clip_whose_file_is_gone_or_changed_is_pending_again(tmp_path):
    import hashlib

    ledger = Ledger(tmp_path)
    for name in ("whole", "changed", "gone"):
        (tmp_path / f"{name}.flac").write_bytes(b"sound")
        ledger.add(LedgerEntry(name, "ok", sha256=hashlib.sha256(b"sound").hexdigest()))
    (tmp_path / "changed.flac").write_bytes(b"sounds")
    (tmp_path / "gone.flac").unlink()
    assert ledger.pending(["whole", "changed", "gone"], retry_failed=False) == ["changed", "gone"]


def test_second_run_in_the_same_folder_is_refused(tmp_path):
    with Ledger(tmp_path), pytest.raises(ValueError, match="another download"), Ledger(tmp_path):
        pass
    with Ledger(tmp_path):
        pass
