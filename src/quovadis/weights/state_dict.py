"""Check state dicts and load them into models."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from quovadis.errors import WeightsError

_VARIANCES = ("running_var", "moving_variance")
"""Name endings of variances in state dicts of quovadis and of other projects."""


def check_keys(keys: Collection[str], expected: Collection[str], problem: str) -> None:
    """Raise unless the keys of a state dict are the expected ones.

    Args:
        keys: Keys of the state dict.
        expected: Expected keys.
        problem: Start of the error message, such as "x.pt is not a state dict of pytorch-i3d".

    Raises:
        WeightsError: If keys are missing or unknown; lists the first ones.
    """
    expected_keys = frozenset(expected)
    differences = {
        "missing": [key for key in expected if key not in keys],
        "unknown": [key for key in keys if key not in expected_keys],
    }
    listed = [
        f"{kind} {len(found)}: {', '.join(key[:80] for key in found[:4])}{' ...' if len(found) > 4 else ''}"
        for kind, found in differences.items()
        if found
    ]
    if listed:
        examples = ", ".join(list(expected)[:2])
        raise WeightsError(f"{problem}: {'; '.join(listed)}; expected {len(expected_keys)} tensors such as {examples}")


def check_values(state: Mapping[str, Tensor], source: str) -> None:
    """Raise if a tensor contains NaN or infinity, or if a variance is negative.

    Args:
        state: Tensors by their names in the file.
        source: Name of the file, for the error message.

    Raises:
        WeightsError: If there are such values; lists the first tensors.
    """
    problems = [f"{name} {problem}" for name, tensor in state.items() if (problem := _problem_of_values(name, tensor))]
    if problems:
        raise WeightsError(
            f"{source} contains invalid values: {_join(problems)}. The file is damaged, or its training diverged; use "
            "another file or an earlier checkpoint"
        )


def _problem_of_values(name: str, tensor: Tensor) -> str:
    if not tensor.is_floating_point() or not tensor.numel() or tensor.is_meta:
        return ""
    try:
        values = tensor.detach() if tensor.element_size() > 1 else tensor.detach().float()
    except RuntimeError:  # torch cannot convert some float8 types
        return f"has the dtype {tensor.dtype}, which cannot be converted to float32"
    smallest, largest = torch.aminmax(values)  # NaN propagates
    if not (torch.isfinite(smallest) and torch.isfinite(largest)):
        count = int(values.numel() - torch.isfinite(values).sum())
        return f"has {count} of {values.numel()} values that are NaN or infinite"
    if name.endswith(_VARIANCES) and smallest < 0:
        return f"is a variance and has a negative value, {float(smallest):g}"
    return ""


def fit_state(model: torch.nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load a state dict into a model strictly.

    A model on the device ``meta`` takes the tensors themselves; any other model copies them.

    Raises:
        WeightsError: If tensors are missing, unknown, of another shape, of another kind of dtype, or not finite; lists
            them. The model is then unchanged.
    """
    own = model.state_dict()
    problems = [f"missing: {name}" for name in own if name not in state]
    problems += [f"unknown: {name}" for name in state if name not in own]
    for name in filter(state.__contains__, own):
        given, expected = state[name], own[name]
        if given.shape != expected.shape:
            problems.append(f"{name}: file has {tuple(given.shape)}, model has {tuple(expected.shape)}")
        if given.is_floating_point() != expected.is_floating_point():
            problems.append(f"{name}: file has {given.dtype}, model has {expected.dtype}")
    if problems:
        raise WeightsError(f"{source} does not fit {type(model).__name__}: {_join(problems)}")
    fitted = {name: state[name].to(own[name].dtype) for name in own}
    check_values(fitted, source)  # folding a scale or converting from float64 may have caused an overflow
    model.load_state_dict(fitted, assign=any(tensor.is_meta for tensor in own.values()))


def _join(problems: list[str]) -> str:
    return "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
