"""The source keeps within its recorded limits, and what measures them sees what it is there to see."""

from pathlib import Path

import architecture
import pytest

FILES = {
    "descant/__init__.py": "",
    "descant/files.py": "",
    "descant/models/__init__.py": "",
    "descant/models/lp_music_caps/__init__.py": "HOMES = {'Model': 'modeling'}\ndef __getattr__(name): ...\n",
    "descant/models/lp_music_caps/modeling.py": "from . import engine\n",
    "descant/models/lp_music_caps/engine.py": "",
    "descant/data/__init__.py": "",
    "descant/data/audio.py": "def load():\n    from descant.files import write\n",
    "descant/commands/__init__.py": "",
    "descant/commands/ask.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import descant.data.audio\n",
}


def write_source(root: Path, changes: dict[str, str]) -> architecture.Source:
    for name, text in (FILES | changes).items():
        path = root / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "recipes").mkdir()
    (root / "recipes" / "job.py").write_text(
        "from descant.data.audio import load\nfrom descant.models.lp_music_caps import Model\n"
    )
    return architecture.Source(root)


def test_no_recorded_limit_is_passed() -> None:
    source = architecture.Source(architecture.ROOT)
    problems = architecture.passed_limits(architecture.measure(source))
    assert not problems, architecture.explain(source, problems)


def test_reach_follows_imports_inside_functions_and_lazy_exports_but_not_those_for_type_checkers(
    tmp_path: Path,
) -> None:
    source = write_source(tmp_path, {})
    programs = source.programs()
    model = ["descant.models.lp_music_caps.engine", "descant.models.lp_music_caps.modeling"]
    assert source.reach(programs["job"]) == ["descant.data.audio", "descant.files", *model]
    assert source.reach(programs["ask"]) == ["descant.commands.ask", *model]


@pytest.mark.parametrize(
    ("file", "text", "arrow"),
    [
        ("descant/data/audio.py", "import descant.commands.ask\n", "descant.data.audio → descant.commands.ask"),
        ("descant/files.py", "def a():\n    from descant.data import audio\n", "descant.files → descant.data.audio"),
        ("descant/__init__.py", "from descant.data.audio import load\n", "descant → descant.data.audio"),
    ],
)
def test_an_import_that_runs_back_up_is_an_arrow(tmp_path: Path, file: str, text: str, arrow: str) -> None:
    assert architecture.back_arrows(write_source(tmp_path, {file: text})) == [arrow]


def test_rooms_of_one_floor_do_not_import_each_other(tmp_path: Path) -> None:
    source = write_source(
        tmp_path,
        {"descant/answering/__init__.py": "", "descant/publish/__init__.py": "from descant import answering\n"},
    )
    assert architecture.back_arrows(source) == ["descant.publish → descant.answering"]


def test_a_room_without_a_floor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no floor for cellar"):
        architecture.back_arrows(write_source(tmp_path, {"descant/cellar.py": ""}))


def test_circles_are_seen_and_those_for_type_checkers_counted_apart(tmp_path: Path) -> None:
    guarded = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from descant.data import a\n"
    source = write_source(
        tmp_path,
        {
            "descant/data/a.py": "from descant.data import b\n",
            "descant/data/b.py": guarded,
            "descant/data/c.py": "from descant.data import d\n",
            "descant/data/d.py": "import descant.data.c\n",
        },
    )
    assert architecture.find_circles(source) == (
        [["descant.data.c", "descant.data.d"]],
        [["descant.data.a", "descant.data.b"]],
    )


def test_a_measure_beyond_its_limit_and_one_without_a_limit_are_problems() -> None:
    measures = {"longest file": 501, "median file": 10, "reach of new_recipe": 3, "files in src": 10**6}
    assert architecture.passed_limits(measures) == [
        "longest file: 501, at most 500",
        f"median file: 10, at least {architecture.LEAST['median file']:g}",
        "reach of new_recipe: 3, and LIMITS has no number for it: record this one",
    ]
