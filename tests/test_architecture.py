"""The house rules that can be checked: imports point downwards, no drawer for leftovers, no paths of a machine."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "melody_cm"
LEVELS = {
    **dict.fromkeys(
        ["audio", "interfaces", "batch", "judges", "network", "tokens", "values", "placement", "randomness"], 0
    ),
    **dict.fromkeys(["storage", "signal"], 1),
    **dict.fromkeys(["configuration", "nn", "losses", "diffusion"], 2),
    **dict.fromkeys(["autoencoders", "discriminators", "denoisers", "language_models", "encoders", "data"], 3),
    **dict.fromkeys(["pipelines", "training", "evaluation"], 4),
    "runs": 5,
    "comparison": 6,
    "cli": 7,
}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("melody_cm."):
            names.add(node.module.split(".")[1])
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[1] for alias in node.names if alias.name.startswith("melody_cm."))
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_to_a_lower_level_or_stay_inside_the_folder(path):
    here = room(path)
    if here == "__init__":
        return
    for other in imported_rooms(path):
        lower = LEVELS[other] < LEVELS[here] or (LEVELS[here] == 0 and LEVELS[other] == 0)
        assert other == here or lower, f"{path.name} ({here}) imports {other}"


def dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path, names: set[str]) -> set[str]:
    """The modules of the package that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found & names


def test_no_module_imports_itself_by_way_of_others():
    modules = {dotted(path): path for path in FILES if dotted(path) != "melody_cm"}
    graph = {name: imported_modules(path, set(modules)) for name, path in modules.items()}
    # A file imports its own room's __init__ just by lying there; that alone makes no circle.
    for name in graph:
        graph[name] -= {name}
    assert list(TopologicalSorter(graph).static_order())


def test_there_is_no_drawer_for_leftovers():
    forbidden = {"utils", "helpers", "common", "registry", "factory"}
    assert not [path for path in FILES if forbidden & set(path.relative_to(PACKAGE).with_suffix("").parts)]


def test_modules_and_public_classes_have_docstrings():
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree) or not tree.body, f"{path} has no module docstring"
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path}: {node.name} has no docstring"


def test_make_bench_runs_every_benchmark_that_needs_no_argument():
    root = PACKAGE.parent
    scripts = {path.stem: path.read_text(encoding="utf-8") for path in (root / "benchmarks").glob("*.py")}
    alone = {name for name, text in scripts.items() if not re.search(r'add_argument\("\w', text)}
    listed = re.search("^BENCHMARKS := (.*)$", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert alone - {"gpu_site", "published"} == set(listed[1].split())  # Parts of others.
