"""Imports only go down the layers, and packages of one layer do not import each other."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "quovadis"

# From the bottom up. A package is a folder or a file directly under quovadis/.
LAYERS: list[set[str]] = [
    {"errors", "version"},
    {"runtime"},
    {"video"},
    {"transforms"},
    {"flow"},
    {"models", "metrics"},
    {"datasets"},
    {"weights"},
    {"export"},
    {"inference"},
    {"evaluation", "fvd"},
    {"training"},
    {"report"},
    {"paper"},
    {"doctor", "web"},
    {"cli"},
    {"__init__", "__main__"},
]
LAYER_OF = {package: layer for layer, packages in enumerate(LAYERS) for package in packages}


def package_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_modules(file: Path) -> list[tuple[int, str]]:
    """Every import in the file, wherever it stands: (line, dotted name within quovadis)."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively; write quovadis.ROOM"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return [(line, name) for line, name in found if name.split(".")[0] == "quovadis"]


def violations(file: Path) -> list[str]:
    own = package_of(file)
    if own not in LAYER_OF:
        return [f"{file.relative_to(SOURCE)} is in a package without a layer"]
    wrong = []
    for line, name in imported_modules(file):
        parts = name.split(".")
        other = parts[1] if len(parts) > 1 else "__init__"
        if other not in LAYER_OF:
            other = "__init__"  # a name of the public API
        if other != own and LAYER_OF[other] >= LAYER_OF[own]:
            direction = "sideways" if LAYER_OF[other] == LAYER_OF[own] else "up"
            wrong.append(f"{file.relative_to(SOURCE)}:{line} imports {name}: {own} -> {other} runs {direction}")
    return wrong


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda f: str(f.relative_to(SOURCE)))
def test_imports_only_go_down(file: Path) -> None:
    assert violations(file) == []


def test_the_rule_sees_lazy_imports_and_siblings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_layers.SOURCE", tmp_path)
    bad = tmp_path / "flow" / "bad.py"
    bad.parent.mkdir()
    bad.write_text("def f():\n    from quovadis.training import loop\nimport quovadis.models.i3d\nimport quovadis\n")
    assert sorted(v.split(": ")[1] for v in violations(bad)) == [
        "flow -> __init__ runs up",
        "flow -> models runs up",
        "flow -> training runs up",
    ]
    (tmp_path / "utils.py").write_text("")
    assert violations(tmp_path / "utils.py") == ["utils.py is in a package without a layer"]


def module_name(file: Path, source: Path) -> str:
    return ".".join(("quovadis", *file.relative_to(source).with_suffix("").parts)).removesuffix(".__init__")


def import_graph(source: Path) -> dict[str, set[str]]:
    """For each module the modules that it imports, lazily too."""
    files = {module_name(file, source): file for file in source.rglob("*.py")}
    graph = {}
    for name, file in files.items():
        dotted = {target for _, target in imported_modules(file)}
        # "quovadis.a.b" names the module quovadis/a/b.py, or the name b in the module quovadis/a.py.
        graph[name] = {t if t in files else t.rpartition(".")[0] for t in dotted} & files.keys() - {name}
    return graph


def cycles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules that import each other."""
    order = TopologicalSorter(graph)
    try:
        order.prepare()
    except CycleError as error:
        found = set(error.args[1])
        rest = {name: targets - found for name, targets in graph.items() if name not in found}
        return [found, *cycles(rest)]
    return []


def test_no_modules_import_each_other() -> None:
    graph = import_graph(SOURCE)
    packages = {name for name in graph if f"{name}." in "".join(f"{other} " for other in graph)}
    # A package's __init__ names its modules, which is not an import until a name is used.
    assert cycles({name: targets - packages for name, targets in graph.items() if name not in packages}) == []


def test_cycles_are_found_through_lazy_imports(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("from quovadis.b import f\n")
    (tmp_path / "b.py").write_text("def f():\n    from quovadis import c\n")
    (tmp_path / "c.py").write_text("import quovadis.a\n")
    (tmp_path / "d.py").write_text("import quovadis.c\n")
    assert cycles(import_graph(tmp_path)) == [{"quovadis.a", "quovadis.b", "quovadis.c"}]
