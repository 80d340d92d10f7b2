"""What one sees of the package: public names in IPython and editors, without importing anything heavy."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import descant

SOURCE = Path(descant.__file__).parent
LAZY = [path for path in sorted(SOURCE.rglob("__init__.py")) if "def __getattr__" in path.read_text(encoding="utf-8")]


def test_what_users_want_is_seen_in_dir() -> None:
    wanted = {"load", "Listener", "load_audio", "evaluate", "score", "Recipe", "Stage", "train"}
    assert wanted <= set(dir(descant)) and "import_module" not in dir(descant)
    assert all(callable(getattr(descant, name)) for name in wanted)


@pytest.mark.parametrize("path", LAZY, ids=lambda path: path.parent.name)
def test_editors_see_the_names_that_are_imported_lazily(path: Path) -> None:
    module = importlib.import_module(".".join(("descant", *path.parent.relative_to(SOURCE).parts)))
    guarded = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.If)]
    imports = [node for one in guarded for node in one.body]
    shown = {alias.asname: f"{node.module}.{alias.name}" for node in imports for alias in node.names}
    assert set(shown) == set(module._HOMES) <= set(dir(module))
    assert set(dir(module)) <= {*module.__all__, "__version__"}
    for name, home in shown.items():
        assert getattr(module, name) is getattr(importlib.import_module(home.rpartition(".")[0]), name)
    with pytest.raises(AttributeError, match="nonsense"):
        module.__getattr__("nonsense")


def test_the_package_alone_imports_nothing_heavy() -> None:
    code = "import sys, descant; dir(descant)\n"
    code += "print(sorted({'torch', 'transformers', 'numpy', 'av', 'huggingface_hub'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "[]\n"
