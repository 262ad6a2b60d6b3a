import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from quovadis.cli import main
from quovadis.doctor import arithmetic, machine, parts
from quovadis.doctor.finding import Finding
from quovadis.runtime.extras import install_command
from quovadis.weights.catalog import CATALOG, DEFAULT_WEIGHTS

ROOT = Path(__file__).parent.parent.parent


def the(name: str, findings: Iterator[Finding] | list[Finding]) -> Finding:
    return next(f for f in findings if f.name == name)


def test_tables_match_the_dependencies_in_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {line.split(">")[0] for line in project["dependencies"]}
    assert needed == set(machine.REQUIRED)
    assert set(project["optional-dependencies"]) - {"browser", "dev", "docs"} <= set(parts.EXTRAS)


def test_missing_dependency_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "REQUIRED", ("numpy", "no-such-distribution"))
    assert the("numpy", machine.versions()).status == "ok"
    found = the("no-such-distribution", machine.versions())
    assert found.is_fatal
    assert found.remedy == "pip install no-such-distribution"


def test_cpu_flags_and_memory_are_read(tmp_path: Path) -> None:
    cpu = tmp_path / "cpuinfo"
    cpu.write_text("processor\t: 0\nflags\t\t: fpu avx2 amx_bf16 other\nprocessor\t: 1\nflags\t\t: fpu avx512f\n")
    assert machine.cpu_flags(cpu) == ["avx2", "amx_bf16"]
    assert machine.cpu_flags(tmp_path / "none") == []
    info = tmp_path / "meminfo"
    info.write_text("MemTotal:       8388608 kB\nMemAvailable:   2097152 kB\nHugePages_Total:       0\n")
    (tmp_path / "memory.max").write_text(f"{1024**3}\n")
    assert machine.memory(info, tmp_path).found == "2.0 GiB available of 8.0 GiB; limited to 1.0 GiB"
    assert machine.memory(tmp_path / "none", tmp_path).found == "unknown on this system"


def test_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    (none,) = machine.gpus()
    assert none.status == "missing"
    assert none.remedy.startswith("for an NVIDIA GPU, install a CUDA build of torch")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert machine.gpus()[0].remedy == "check the driver: nvidia-smi"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    properties = SimpleNamespace(name="H", total_memory=80 * 1024**3, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: properties)
    assert [f.found for f in machine.gpus()] == ["H, 80.0 GiB, capability 9.0"] * 2


def test_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUOVADIS_CACHE", str(tmp_path))
    entry = CATALOG[DEFAULT_WEIGHTS]
    folder = tmp_path / "weights" / entry.name
    folder.mkdir(parents=True)
    (tmp_path / "weights" / "i3d-flow-kinetics400").mkdir()  # empty after a failed download
    (folder / f"{entry.files[0].name}.part").write_bytes(b"half")
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: SimpleNamespace(free=3 * 1024**3))
    assert machine.cache().found == f"{tmp_path}/weights: 0 sets of weights, 3.0 GiB free"
    for file in entry.files:
        (folder / file.name).write_bytes(b"whole")
    assert machine.cache() == Finding("machine", "cache", "ok", f"{tmp_path}/weights: 1 set of weights, 3.0 GiB free")
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: SimpleNamespace(free=1024**3))
    assert "at least 2.0 GiB are needed" in machine.cache().found
    monkeypatch.setattr(machine.os, "access", lambda path, mode: False)
    assert machine.cache().is_fatal
    assert "is not writable" in machine.cache().found
    assert "QUOVADIS_CACHE" in machine.cache().remedy


def test_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {f.status for f in parts.decoders()} == {"ok"}
    assert "libavcodec"[3:] in parts.ffmpeg().found
    monkeypatch.setattr(parts, "DECODERS", {"no_such_codec": "nobody", "h264": "all"})
    assert the("no_such_codec", parts.decoders()).status == "missing"
    real = parts.av.codec.Codec

    def without_h264(name: str, mode: str) -> object:
        return real("no_such_codec" if name == "h264" else name, mode)

    monkeypatch.setattr(parts.av.codec, "Codec", without_h264)
    assert the("h264", parts.decoders()).is_fatal


def test_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "find_spec", lambda module: None if module == "onnxscript" else object())
    found = the("export", parts.extras())
    assert found.status == "missing"
    assert found.found.startswith("not installed: onnxscript (")
    assert found.remedy == install_command("export")
    assert the("kinetics", parts.extras()).status == "ok"


def test_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "find_spec", lambda module: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert parts.triton().status == "ok"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert parts.triton().remedy == "pip install triton"


def test_numerical_checks_pass() -> None:
    findings = [*arithmetic.networks(), arithmetic.flow(), arithmetic.decoding()]
    assert [f.status for f in findings] == ["ok"] * len(findings), findings


def test_network_with_wrong_padding_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def other_end(size: int, kernel: int, stride: int) -> tuple[int, int]:
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total - total // 2, total // 2

    monkeypatch.setattr("quovadis.models.layers.same_padding", other_end)
    assert the("network, float64", arithmetic.networks()).is_fatal


def test_wrong_float32_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.nn.functional.conv3d

    def rough(x: torch.Tensor, *args: object) -> torch.Tensor:  # as with 10 bits of mantissa
        return real(x.bfloat16().to(x.dtype) if x.dtype == torch.float32 else x, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.nn.functional, "conv3d", rough)
    findings = list(arithmetic.networks())
    assert the("network, float64", findings).status == "ok"
    assert the("network, float32, cpu", findings).is_fatal


@pytest.mark.parametrize("wrong", [lambda flow: flow + 0.3, lambda flow: -flow])
def test_wrong_flow_is_broken(wrong: object, monkeypatch: pytest.MonkeyPatch) -> None:
    real = arithmetic.implementation_for("cpu")
    monkeypatch.setattr(arithmetic, "implementation_for", lambda kind: tvl1_wrong)

    def tvl1_wrong(*args: object) -> torch.Tensor:
        return wrong(real(*args))  # type: ignore[operator,arg-type]

    assert arithmetic.flow().is_fatal


def test_wrong_bf16_gradients_are_not_fatal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert arithmetic.bf16_training().status == "ok"
    monkeypatch.setattr(arithmetic, "bf16_error", lambda: float("inf"))
    found = arithmetic.bf16_training()
    assert (found.status, found.is_fatal) == ("missing", False)
    assert "--precision no" in found.remedy


def test_lossy_decoding_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "LOSSLESS", {"options": {"crf": "30"}})
    assert arithmetic.decoding().is_fatal


def test_failing_check_is_a_finding_and_others_still_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def networks() -> Iterator[Finding]:
        raise RuntimeError("illegal instruction")

    monkeypatch.setattr(arithmetic, "networks", networks)
    monkeypatch.setattr(parts, "find_spec", lambda module: None)
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stop:
        main(["doctor"])
    assert stop.value.code == 1
    shown = capsys.readouterr().out
    assert "illegal instruction" in shown
    assert "lossless frames decoded exactly" in shown
    assert "[opencv]'" in shown
    assert "1 broken, " in shown


def test_doctor_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["healthy"] is True
    python = next(f for f in report["findings"] if f["name"] == "python")
    assert python["found"].startswith(".".join(map(str, sys.version_info[:3])))


@pytest.mark.parametrize(
    ("setting", "status", "found"),
    [
        ({}, "ok", "waiting threads sleep"),
        ({"GOMP_SPINCOUNT": "1000"}, "ok", "waiting threads sleep"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "ok", "waiting threads sleep"),
        ({"OMP_WAIT_POLICY": "active"}, "missing", "OMP_WAIT_POLICY=active"),
        ({"GOMP_SPINCOUNT": "300000"}, "missing", "GOMP_SPINCOUNT=300000"),
    ],
)
def test_threads_that_wait_actively_are_reported(
    setting: dict[str, str], status: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    finding = machine.threads()
    assert finding.status == status
    assert found in finding.found
