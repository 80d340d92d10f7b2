"""What the demonstration of collections is made of: good files decode, bad ones do not; pages open in a browser."""

import shutil
from pathlib import Path

import bench_report
import collection_demo
import pytest
from tiny import save_tiny_decider

from descant.collections.report import render_page, show_answers
from descant.data.audio import AudioError, list_sound_files, load_audio


def test_one_file_in_ten_is_bad_and_all_formats_can_be_heard(tmp_path: Path) -> None:
    assert collection_demo.make_folder(tmp_path, 10) == {"good": 9, "bad": 1}
    songs = list_sound_files(tmp_path)
    assert len(songs.files) == 10 and [path.name for path in songs.left_out] == ["cover.jpg"]
    for kind in collection_demo.GOOD:
        (first, *_) = (path for path in songs.files if path.name.startswith("[") and path.suffix == f".{kind}")
        assert len(load_audio(first)) > 100_000


@pytest.mark.parametrize("name", collection_demo.BAD)
def test_a_bad_file_cannot_be_heard(name: str, tmp_path: Path) -> None:
    collection_demo.BAD[name](tmp_path / name)
    with pytest.raises(AudioError):
        load_audio(tmp_path / name)


HACK = "document.documentElement.dataset.hacked = 1"
EVIL = f"</script><script>{HACK}</script><img src=x onerror='{HACK}'>"


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_shows_what_users_gave_and_runs_none_of_it(tmp_path: Path) -> None:
    tracks = [show_answers(EVIL, [{"question": EVIL, "prediction": EVIL, "references": [EVIL]}])]
    (tmp_path / "report.html").write_text(render_page(EVIL, tracks), encoding="utf-8")
    shown = bench_report.dump_page(tmp_path / "report.html", "chromium", settle_ms=5_000)  # cards are filled in sight
    assert "data-hacked" not in shown and "<img" not in shown.partition("<main")[2].partition("</main>")[0]
    assert shown.count("&lt;/script&gt;&lt;script&gt;") >= 4  # title, heading, name, and the answer with its reference
    page = bench_report.write_page(tmp_path / "many", 12)
    opened = bench_report.open_page(page, "chromium")
    assert opened["articles"] == 12 and (tmp_path / "many" / "pictures").is_dir()


@pytest.mark.reliability
def test_a_collection_goes_through_two_kills_tags_and_search(tmp_path: Path) -> None:
    model = save_tiny_decider(tmp_path / "model")
    assert collection_demo.make_folder(tmp_path / "music", 40)["good"] == 36
    result = collection_demo.run_all(tmp_path / "music", str(model), tmp_path / "out")  # ends the test where it fails
    assert result["described"]["failed"] == 4 and result["described"]["known"] >= 18
    assert result["sound_after_tags"] and result["sound_after_undo"] and "36 tracks" in result["report"]
