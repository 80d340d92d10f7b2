"""Measure how the source hangs together: sizes, reach, the order of its rooms, circles. Fails where one gets worse.

    python tests/architecture.py                        the table; exit status 1 where a limit is passed
    python tests/architecture.py --reach mi_short_long  the files that a recipe (or `ask`) reaches, one a line
    python tests/architecture.py --root OTHER_CHECKOUT  the same of another checkout

Everything is read from the files by `ast`, nothing is imported. Reach is the number of source files that a program
can come to import, those inside functions and behind lazy exports included, `__init__.py` files and imports for type
checkers not. A change that raises a limit changes the number below in the same commit, and says why in its message.
"""

import argparse
import ast
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median, quantiles

PACKAGE = "descant"
ROOT = Path(__file__).resolve().parents[1]

# Rooms from the ground up. An import goes down; rooms of one floor do not know each other, but those of the ground.
FLOORS = (
    ("files", "hub_client", "program"),
    ("models", PACKAGE),
    ("data",),
    ("building", "answering", "publish"),
    ("evaluation", "collections"),
    ("training",),
    ("subgenre",),
    ("doors",),
    ("commands",),
    ("cli",),
)

# Measure → largest value allowed. Goals before features: a recipe reaches 49 files (60 with MertLM, 71 for subgenres),
# `ask` 18, and the model folders have 15, 11 and 6. Features brought what is above them: typed answers and answers
# about whole tracks (`decision_music`, `decision_file`, `answer_tree`, `track_music`, `terms` and `sure_claims` of a
# model folder, and `answers` in `ask`), the one reader of sound through FFmpeg and what it reads of servers and shards
# (`sound_file`, `sources`, `storage`), the message form (`sound_input`), and what is there once instead of thrice
# (`program`, `hub_client`, `stream`). `Listener.describe` alone brings `description` into `ask`.
LIMITS: dict[str, float] = {
    "longest file": 500,
    "longest function": 56,
    "longest but forward, generate": 40,
    "back arrows": 0,
    "circles": 0,
    "circles for type checkers only": 1,
    "files of box": 1,
    "files of lp_music_caps": 20,
    "files of mert_lm": 17,
    "files of musicnn": 9,
    "files of subgenre": 6,
    "reach of ask": 31,
    "reach of box": 66,
    "reach of captions_from_qa": 23,
    "reach of lp_musiccaps_pretrain": 58,
    "reach of lp_musiccaps_supervised": 58,
    "reach of lp_musiccaps_transfer": 58,
    "reach of mert_lm_captions": 66,
    "reach of mert_lm_instruct": 66,
    "reach of mi_all": 58,
    "reach of mi_long": 58,
    "reach of mi_short": 58,
    "reach of mi_short_long": 66,
    "reach of subgenre": 75,
}
# Measure → the smallest value allowed.
LEAST: dict[str, float] = {"median file": 150, "annotated arguments, %": 100, "public docstrings, %": 100}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Imports:
    """The modules that one file imports: when it runs, and for type checkers alone."""

    running: set[str] = field(default_factory=set)
    checking: set[str] = field(default_factory=set)


class Source:
    """The package's files below a checkout, parsed once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = {_module_name(path, root / "src"): path for path in sorted((root / "src").rglob("*.py"))}
        self.texts = {name: path.read_text(encoding="utf-8") for name, path in self.paths.items()}
        self.trees = {name: ast.parse(text) for name, text in self.texts.items()}
        self.exports = {name: self._find_exports(name) for name in self.paths if self.is_package(name)}

    def is_package(self, name: str) -> bool:
        """Return whether a module is the `__init__.py` of its folder."""
        return self.paths[name].name == "__init__.py"

    @cached_property
    def imports(self) -> dict[str, Imports]:
        """Map each module to what it imports."""
        return {name: self.read_imports(tree, name) for name, tree in self.trees.items()}

    def read_imports(self, tree: ast.Module, name: str) -> Imports:
        """Return the modules of the package that a parsed file imports, with the homes of names exported lazily.

        name: the file's module name, from which relative imports count. A package's imports inside functions are those
        of its lazy exports: they count where such a name is imported.
        """
        package = name in self.paths and self.is_package(name)
        found = Imports()
        for node, checking in _import_nodes(tree, into_functions=not package):
            for target in self._targets(node, name, package):
                (found.checking if checking else found.running).add(target)
        return found

    def _targets(self, node: ast.Import | ast.ImportFrom, name: str, package: bool) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in self.paths)
            return
        base = _absolute(node, name, package)
        for alias in node.names:
            module = f"{base}.{alias.name}"
            if module in self.paths:
                yield module
            elif base in self.paths:
                yield base
                yield from filter(None, [self.exports.get(base, {}).get(alias.name)])

    def _find_exports(self, name: str) -> dict[str, str]:
        """Map names that a package exports lazily to their modules.

        By its table, by its imports for type checkers, or by what a function of its own imports when it is called.
        """
        homes: dict[str, str] = {}
        for node in ast.walk(self.trees[name]):
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and isinstance(value, ast.Constant):
                        homes.update({str(key.value): home for home in self._near(name, str(value.value))})
        for function in filter(lambda node: isinstance(node, Function), self.trees[name].body):
            for node, _ in _import_nodes(function, into_functions=True):
                if isinstance(node, ast.ImportFrom) and node.module in self.paths:
                    homes[function.name] = node.module
        for node, checking in _import_nodes(self.trees[name], into_functions=False):
            if checking and isinstance(node, ast.ImportFrom):
                base = _absolute(node, name, package=True)
                homes.update({alias.asname or alias.name: base for alias in node.names if base in self.paths})
        return homes

    def _near(self, package: str, module: str) -> list[str]:
        return [name for name in (f"{package}.{module.lstrip('.')}", module) if name in self.paths]

    def reach(self, starts: Iterable[str]) -> list[str]:
        """Return the modules that a program can come to import, without `__init__.py` files.

        A file that is linked into several folders, as model folders need it, is one file to read.
        """
        seen: set[str] = set()
        waiting = list(starts)
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += self.imports[name].running
        names = sorted((name for name in seen if not self.is_package(name)), reverse=True)
        return sorted({self.paths[name].resolve(): name for name in names}.values())

    def programs(self) -> dict[str, list[str]]:
        """Map each recipe, and `ask` of an LP-MusicCaps folder, to the modules it starts from."""
        starts = {
            path.stem: sorted(self.read_imports(ast.parse(path.read_text(encoding="utf-8")), path.stem).running)
            for path in sorted((self.root / "recipes").glob("*.py"))
        }
        model = sorted(set(self.exports[f"{PACKAGE}.models.lp_music_caps"].values()))
        return {"ask": [f"{PACKAGE}.commands.ask", *model], **starts}


def _module_name(path: Path, base: Path) -> str:
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _absolute(node: ast.ImportFrom, name: str, package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = name.split(".")
    parts = parts[: len(parts) - node.level + package]
    return ".".join(parts + ([node.module] if node.module else []))


def _import_nodes(
    tree: ast.AST, into_functions: bool, checking: bool = False
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Yield each import with whether it is for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, checking
        elif isinstance(node, Function) and not into_functions:
            continue
        else:
            guarded = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            yield from _import_nodes(node, into_functions, checking or guarded)


def room_of(module: str) -> str:
    """Return the folder or file directly below the package that a module belongs to."""
    return module.split(".")[1] if "." in module else module


def back_arrows(source: Source) -> list[str]:
    """Return the imports that do not go down to a lower floor (or stay in their room), as "a → b".

    Raises ValueError for a room that has no floor yet.
    """
    floors = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    homeless = {room_of(name) for name in source.paths} - set(floors)
    if homeless:
        raise ValueError(f"no floor for {', '.join(sorted(homeless))}: add it to FLOORS")
    arrows = []
    for name, imports in source.imports.items():
        for target in sorted(imports.running - {PACKAGE}):
            above, below = floors[room_of(name)], floors[room_of(target)]
            if room_of(name) != room_of(target) and (below > above or below == above > 0 and name != PACKAGE):
                arrows.append(f"{name} → {target}")
    return arrows


def circles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other (strongly connected components of two or more)."""
    reached = {name: _closure(name, edges) for name in edges}
    groups = {
        frozenset(other for other in reached[name] if name in reached[other])
        for name in edges
        if name in reached[name]
    }
    return sorted(sorted(group) for group in groups)


def _closure(start: str, edges: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(edges[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += edges[name]
    return seen


def find_circles(source: Source) -> tuple[list[list[str]], list[list[str]]]:
    """Return the circles of imports that run, and the further ones that imports for type checkers close."""
    running = {name: found.running - {PACKAGE, name} for name, found in source.imports.items()}
    checking = {
        name: running[name] | (found.checking - {PACKAGE, name} if not source.is_package(name) else set())
        for name, found in source.imports.items()
    }
    closed = circles(running)
    return closed, [group for group in circles(checking) if group not in closed]


def measure_functions(source: Source) -> dict[str, float]:
    """Return lengths of functions in lines, and the shares of annotated arguments and of public docstrings."""
    lengths: list[int] = []
    others: list[int] = []  # without those whose signature transformers fixes, a dozen arguments long
    arguments: list[bool] = []
    documented: list[bool] = []
    for tree in source.trees.values():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                lengths.append((node.end_lineno or 0) - node.lineno + 1)
                others += lengths[-1:] if node.name not in ("forward", "generate") else []
                arguments += [argument.annotation is not None for argument in _arguments(node)]
        documented += [ast.get_docstring(node) is not None for node in _public(tree.body)]
    return {
        "median function": median(lengths),
        "p90 function": _ninth_decile(lengths),
        "longest function": max(lengths),
        "longest but forward, generate": max(others),
        "annotated arguments, %": round(100 * sum(arguments) / len(arguments), 1),
        "public docstrings, %": round(100 * sum(documented) / len(documented), 1),
    }


def _arguments(node: Function) -> list[ast.arg]:
    spec = node.args
    named = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, *filter(None, (spec.vararg, spec.kwarg))]
    return [argument for argument in named if argument.arg not in ("self", "cls")]


def _public(body: Iterable[ast.stmt]) -> Iterator[Function | ast.ClassDef]:
    """Yield public functions, classes and their methods."""
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body)


def _ninth_decile(values: list[int]) -> float:
    return round(quantiles(values, n=10)[-1])


def measure(source: Source) -> dict[str, float]:
    """Return every measure of the table."""
    sizes = [len(text.splitlines()) for text in source.texts.values()]
    closed, for_checkers = find_circles(source)
    folders = sorted(path.parent for path in (source.root / "src" / PACKAGE / "models").glob("*/__init__.py"))
    return {
        "files in src": len({path.resolve() for path in source.paths.values()}),
        "lines in src": sum(sizes),
        "median file": median(sizes),
        "p90 file": _ninth_decile(sizes),
        "longest file": max(sizes),
        **measure_functions(source),
        "back arrows": len(back_arrows(source)),
        "circles": len(closed),
        "circles for type checkers only": len(for_checkers),
        **{f"files of {folder.name}": len(list(folder.glob("*.py"))) for folder in folders},
        **{f"reach of {name}": len(source.reach(starts)) for name, starts in source.programs().items()},
    }


def passed_limits(measures: Mapping[str, float]) -> list[str]:
    """Return a sentence for each measure that is worse than its limit, or that has none though its kind needs one."""
    problems = []
    for name, value in measures.items():
        if value > LIMITS.get(name, value):
            problems.append(f"{name}: {value:g}, at most {LIMITS[name]:g}")
        elif value < LEAST.get(name, value):
            problems.append(f"{name}: {value:g}, at least {LEAST[name]:g}")
        elif name.startswith(("reach of", "files of")) and name not in LIMITS:
            problems.append(f"{name}: {value:g}, and LIMITS has no number for it: record this one")
    return problems


def explain(source: Source, problems: Iterable[str]) -> str:
    """Return the problems, a line each, with the arrows and circles themselves below."""
    closed, for_checkers = find_circles(source)
    shown = defaultdict(list, {
        "back arrows": back_arrows(source),
        "circles": [" ⇄ ".join(group) for group in closed],
        "circles for type checkers only": [" ⇄ ".join(group) for group in for_checkers],
    })  # fmt: skip
    return "\n".join(
        line for problem in problems for line in (problem, *(f"    {item}" for item in shown[problem.split(":")[0]]))
    )


def main() -> int:
    """Print the table, or the files that a program reaches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="a checkout (default: this one)")
    parser.add_argument("--reach", metavar="PROGRAM", help="list the files that a recipe or `ask` reaches")
    args = parser.parse_args()
    source = Source(args.root)
    if args.reach:
        print("\n".join(source.reach(source.programs()[args.reach])))
        return 0
    measures = measure(source)
    for name, value in measures.items():
        print(f"{name:34} {value:>8g}  {_limit_of(name)}")
    problems = passed_limits(measures)
    print(explain(source, problems), file=sys.stderr)
    return 1 if problems else 0


def _limit_of(name: str) -> str:
    return f"≤ {LIMITS[name]:g}" if name in LIMITS else f"≥ {LEAST[name]:g}" if name in LEAST else ""


if __name__ == "__main__":
    sys.exit(main())
