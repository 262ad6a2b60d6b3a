"""The floors of the house: an import only goes down, and rooms on one floor do not know each other."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "quovadis"

# From the ground up. A room is a folder or a file directly under quovadis/.
FLOORS: list[set[str]] = [
    {"extras"},
    {"errors", "version"},
    {"types", "processes", "prefetch", "atomic", "interrupts", "cache"},
    {"video"},
    {"transforms", "flow", "models", "metrics", "fuse", "report", "paper", "labels", "download", "activation_maps"},
    {"weights", "datasets"},
    {"recognizer", "doctor"},
    {"evaluation"},
    {"training"},
    {"web"},
    {"cli"},
    {"__init__", "__main__"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room_of(file: Path) -> str:
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
    own = room_of(file)
    if own not in FLOOR_OF:
        return [f"{file.relative_to(SOURCE)} is in a room without a floor"]
    wrong = []
    for line, name in imported_modules(file):
        parts = name.split(".")
        other = parts[1] if len(parts) > 1 else "__init__"
        if other not in FLOOR_OF:
            other = "__init__"  # a name taken from the public face
        if other != own and FLOOR_OF[other] >= FLOOR_OF[own]:
            direction = "sideways" if FLOOR_OF[other] == FLOOR_OF[own] else "up"
            wrong.append(f"{file.relative_to(SOURCE)}:{line} imports {name}: {own} -> {other} runs {direction}")
    return wrong


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda f: str(f.relative_to(SOURCE)))
def test_imports_only_go_down(file: Path) -> None:
    assert violations(file) == []


def test_the_rule_sees_lazy_imports_and_siblings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_layers.SOURCE", tmp_path)
    bad = tmp_path / "flow" / "bad.py"
    bad.parent.mkdir()
    bad.write_text("def f():\n    from quovadis.training import loop\nimport quovadis.models.i3d\nimport quovadis\n")
    assert sorted(v.split(": ")[1] for v in violations(bad)) == [
        "flow -> __init__ runs up",
        "flow -> models runs sideways",
        "flow -> training runs up",
    ]
    (tmp_path / "utils.py").write_text("")
    assert violations(tmp_path / "utils.py") == ["utils.py is in a room without a floor"]
