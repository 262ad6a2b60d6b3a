"""The Containerfile; a machine without a container program can only check its commands."""

import json
import re
from pathlib import Path

from tests.docs.blocks import exit_code

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "Containerfile").read_text()


def instruction(name: str) -> str:
    (value,) = re.findall(rf"^{name} (.*)$", TEXT, re.M)
    return str(value)


def test_copied_files_exist_and_are_sent_to_the_builder() -> None:
    sources = [word for line in re.findall(r"^COPY (.*)$", TEXT, re.M) for word in line.split()[:-1]]
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert len(sources) > 4
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert set(sources) == kept


def test_commands_parse() -> None:
    assert json.loads(instruction("ENTRYPOINT")) == ["quovadis"]
    assert exit_code(json.loads(instruction("CMD")), run=False) == 0


def test_the_health_check_uses_the_port_of_the_command() -> None:
    command = json.loads(instruction("CMD"))
    port = command[command.index("--port") + 1]
    assert f"127.0.0.1:{port}/health" in TEXT
    assert instruction("EXPOSE") == port
