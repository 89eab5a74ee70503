"""Files of tensors load; hostile ones are rejected in one line, quickly, and run nothing."""

import collections
import io
import pickle
import time
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
import torch

from raysearch.models import tensor_files
from raysearch.models.tensor_files import load_tensors


class Call:
    """An object whose pickle calls `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call


def archive(pickled: bytes, compression: int = zipfile.ZIP_STORED, data: bytes = b"") -> bytes:
    """Return a file in torch's format with the pickle `pickled`."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/data/0", data)
        file.writestr("archive/version", b"3\n")
    return content.getvalue()


def nested_tuple(depth: int) -> bytes:
    """Return a pickle of a mapping whose key has 2 ** `depth` values."""
    layers = b"".join(b"h\x01h\x01\x86q\x01" for _ in range(depth))
    return b"\x80\x02}K\x01q\x01" + layers + b"K\x01s."


def saved(value: object, old_format: bool = False) -> io.BytesIO:
    """Return what `torch.save` writes."""
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=not old_format)
    return file


@pytest.mark.parametrize("old_format", [False, True])
def test_tensors_and_plain_values_load(old_format: bool) -> None:
    state = torch.nn.Linear(2, 3).state_dict()
    value = {
        "state": state,
        "half": torch.ones(2, dtype=torch.bfloat16),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "shared": [state["bias"], state["bias"][:2], torch.arange(4, dtype=torch.uint8)],
        "values": [1, 2.5, None, True, "text", (1, 2), torch.float16, 2**80],
        "names": collections.OrderedDict(a=1),
    }
    loaded = load_tensors(saved(value, old_format))
    assert isinstance(loaded, dict)
    assert loaded.keys() == value.keys()
    assert torch.equal(loaded["state"]["weight"], state["weight"])
    assert torch.equal(loaded["half"], torch.ones(2, dtype=torch.bfloat16))
    assert torch.equal(loaded["shared"][1], state["bias"][:2])
    assert loaded["values"] == value["values"]


HOSTILE = {
    "code": archive(pickle.dumps(Call(print, "code of the file"), 2)),
    "bytearray": archive(pickle.dumps(Call(bytearray, 10**11), 2)),
    "counter": archive(pickle.dumps(Call(collections.Counter, "ab"), 2)),
    "nested tuples": archive(nested_tuple(40)),
    "deep": archive(b"\x80\x02" + b"(" * 10**5 + b"."),
    "empty": b"",
    "zeros": bytes(1000),
    "text": b"no file of torch\n",
    "no pickle": archive(b""),
    "underflow": archive(b"\x80\x020000."),
    "old format, code": pickle.dumps(Call(print, "code of the file"), 2),
    "unknown opcode": archive(b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\xff."),
    "compressed": archive(pickle.dumps({}, 2), zipfile.ZIP_DEFLATED, bytes(10**6)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_rejected(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    start = time.monotonic()
    with pytest.raises(ValueError) as rejected:  # noqa: PT011 its text is any
        load_tensors(io.BytesIO(HOSTILE[name]))
    assert time.monotonic() - start < 5
    assert "\n" not in str(rejected.value)
    assert "code of the file" not in capsys.readouterr().out


def test_the_reason_is_named() -> None:
    reasons = {
        "code": "holds '__builtin__ print', and no tensors",
        "compressed": "compressed",
        "nested tuples": "more than 10,000,000 values",
    }
    for name, reason in reasons.items():
        with pytest.raises(ValueError, match=reason):
            load_tensors(io.BytesIO(HOSTILE[name]))


def test_entries_that_overlap_are_rejected() -> None:
    file = io.BytesIO(archive(pickle.dumps({}, 2), data=bytes(10_000)))
    with zipfile.ZipFile(file, "a") as changed:
        entry = changed.getinfo("archive/data/0")
        for number in range(1, 100):
            other = zipfile.ZipInfo(f"archive/data/{number}")
            for field in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(other, field, getattr(entry, field))
            changed.filelist.append(other)
            changed.NameToInfo[other.filename] = other
        changed._didModify = True  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="larger than the file"):
        load_tensors(file)


def test_a_pickle_is_found_whatever_the_case_of_its_name_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tensor_files, "MAX_OPERATIONS", 5)
    content = saved({"a": torch.zeros(1)})
    renamed = io.BytesIO()
    with (
        zipfile.ZipFile(content) as stored,
        zipfile.ZipFile(renamed, "w", zipfile.ZIP_STORED) as changed,
    ):
        for name in stored.namelist():
            changed.writestr(name.replace("data.pkl", "DATA.PKL"), stored.read(name))
    with pytest.raises(ValueError, match="more than 5 operations"):
        load_tensors(renamed)


def test_entries_whose_names_differ_only_in_case_are_rejected() -> None:
    content = saved({"a": torch.zeros(1)})
    with zipfile.ZipFile(content, "a", zipfile.ZIP_STORED) as archive_file:
        name = next(name for name in archive_file.namelist() if name.endswith("data.pkl"))
        archive_file.writestr(name.upper(), b"")
    with pytest.raises(ValueError, match="two entries have the same name"):
        load_tensors(content)


def test_a_pickle_may_not_be_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_files, "MAX_OPERATIONS", 50)
    with pytest.raises(ValueError, match="more than 50 operations"):
        load_tensors(saved({"a": torch.zeros(1), "b": torch.ones(1)}))


def test_a_file_may_not_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_files, "MAX_FILE_BYTES", 100)
    with pytest.raises(ValueError, match="at most 100 are allowed"):
        load_tensors(saved({"a": 1}))
