"""Loads files of tensors that may be hostile: no code is run, and time and memory are limited.

`torch.load` with `weights_only=True` runs no code of a file, but it decompresses what is
compressed, builds any `bytearray`, and hashes any nest of tuples. The checks here run before it.
"""

from __future__ import annotations

import os
import pickletools
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import IO, TypeVar

import torch
from torch import Tensor, nn

from raysearch.errors import first_line

Module = TypeVar("Module", bound=nn.Module)
ZIP_START = b"PK\x03\x04"
MAX_FILE_BYTES = 16 * 2**30
MAX_ENTRIES = 100_000
MAX_PICKLE_BYTES = 64 * 2**20
# A pickle has some 40 operations for each tensor.
MAX_OPERATIONS = 10**6
# The values in a pickle, each counted as often as another one refers to it.
MAX_VALUES = 10**7
# A file of torch's old format begins with so many pickles; the tensors follow.
NUM_OLD_PICKLES = 5
ALLOWED_GLOBALS = (
    "collections OrderedDict",
    "torch Size",
    "torch device",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
)
MARK = -1
# The attribute of a module with the names of such entries.
VARIABLE_ROWS = "VARIABLE_ROWS"


def load_tensors(file: IO[bytes]) -> object:
    """Load the tensors and plain values of a file that `torch.save` wrote, on the CPU.

    Raises:
        ValueError: If the file is damaged, too large, compressed, or has other objects.
    """
    try:
        _check_file(file)
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, zipfile and pickle raise any class
        raise ValueError(first_line(error, 100)) from None


def is_state_dict(value: object) -> bool:
    """Return whether `value` is a mapping of names to tensors."""
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()
    )


def load_state(
    build: Callable[[], Module], state: Mapping[str, Tensor], *, on_meta: bool = True
) -> Module:
    """Build a module with the weights `state`.

    The module is first built on torch's meta device, which allocates no memory: hyperparameters of
    a hostile file may ask for far more weights than the file has.

    Args:
        build: Builds the module.
        state: Its weights.
        on_meta: Whether the module can be built on the meta device; code of the user's may read
            values of tensors.

    Raises:
        ValueError: If the module has other weights, or cannot be built.
    """
    try:
        with torch.device("meta" if on_meta else "cpu"):
            expected = build()
        if _shapes(expected.state_dict(), expected) != _shapes(state, expected):
            raise ValueError("the weights are those of another network")
        module = build()
        module.load_state_dict(dict(state))
    except Exception as error:  # networks of other libraries raise any class
        raise ValueError(first_line(error, 100)) from None
    return module


def _shapes(state: Mapping[str, Tensor], module: nn.Module) -> dict[str, torch.Size]:
    """Return the shapes of the entries of a state of `module`.

    Entries with a row for each training row, which a module names as `VARIABLE_ROWS`, are without
    their number of rows.
    """
    variable = {
        f"{path}.{name}".removeprefix(".")
        for path, part in module.named_modules()
        for name in getattr(part, VARIABLE_ROWS, ())
    }
    return {
        name: value.shape[1:] if name in variable and _has_own_rows(value) else value.shape
        for name, value in state.items()
    }


def _has_own_rows(value: Tensor) -> bool:
    """Return whether a tensor has rows, and each has memory of its own: strides can repeat one."""
    num_bytes = value.numel() * value.element_size()
    is_stored = value.is_meta or num_bytes <= value.untyped_storage().nbytes()
    return value.ndim > 0 and is_stored and (len(value) > 0 or value.is_meta)


def _check_file(file: IO[bytes]) -> None:
    num_bytes = file.seek(0, os.SEEK_END)
    if num_bytes > MAX_FILE_BYTES:
        raise ValueError(f"{num_bytes:,} bytes, at most {MAX_FILE_BYTES:,} are allowed")
    file.seek(0)
    if file.read(len(ZIP_START)) == ZIP_START:
        _check_archive(file, num_bytes)
        return
    file.seek(0)
    for _ in range(NUM_OLD_PICKLES):
        _check_pickle(pickletools.genops(file))


def _check_archive(file: IO[bytes], num_bytes: int) -> None:
    """Check the entries of an archive: stored, not compressed, and each byte of them once."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if len(entries) > MAX_ENTRIES:
            raise ValueError(f"{len(entries):,} entries, at most {MAX_ENTRIES:,} are allowed")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("its entries are compressed; save it with torch.save")
        if sum(entry.file_size for entry in entries) > num_bytes:
            raise ValueError("its entries are larger than the file")
        # torch finds an entry whatever the case of its name is.
        names = [entry.filename.lower() for entry in entries]
        if len(set(names)) < len(names):
            raise ValueError("two entries have the same name")
        for entry, name in zip(entries, names, strict=True):
            if name.endswith(".pkl"):
                if entry.file_size > MAX_PICKLE_BYTES:
                    raise ValueError(f"{entry.filename} has {entry.file_size:,} bytes")
                _check_pickle(pickletools.genops(archive.read(entry)))


def _check_pickle(operations: Iterable[tuple[pickletools.OpcodeInfo, object, object]]) -> None:
    """Check the names in a pickle, and the number of values that it stands for.

    The operations run on a stack of numbers: the values that each object refers to. A tuple that
    contains another one twice, and so on, would take exponential time to hash.
    """
    stack: list[int] = []
    memo: dict[object, int] = {}
    for number, (operation, argument, _position) in enumerate(operations):
        name = operation.name
        if number > MAX_OPERATIONS:
            raise ValueError(f"has more than {MAX_OPERATIONS:,} operations")
        if name == "GLOBAL" and not _is_allowed(str(argument)):
            raise ValueError(f"holds {str(argument)[:100]!r}, and no tensors and plain values")
        if name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[argument])
        else:
            _run(operation, stack)
        if stack and stack[-1] > MAX_VALUES:
            raise ValueError(f"stands for more than {MAX_VALUES:,} values")


def _run(operation: pickletools.OpcodeInfo, stack: list[int]) -> None:
    """Replace what `operation` takes from the stack by what it leaves there."""
    if operation.name == "MARK":
        stack.append(MARK)
        return
    taken, num_values = list(operation.stack_before), 1
    if pickletools.markobject in taken:
        while (top := stack.pop()) != MARK:
            num_values += top
        taken = taken[: taken.index(pickletools.markobject)]
    for _ in taken:
        num_values += stack.pop()
    stack += [num_values] * len(operation.stack_after)


def _is_allowed(name: str) -> bool:
    module, _, attribute = name.partition(" ")
    if name in ALLOWED_GLOBALS:
        return True
    is_dtype = isinstance(getattr(torch, attribute, None), torch.dtype)
    return module == "torch" and (attribute.endswith("Storage") or is_dtype)
