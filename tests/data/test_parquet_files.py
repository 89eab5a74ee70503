"""Parquet files are read with verified checksums, and without pandas."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysearch.data.parquet_files import filter_rows, numeric_array, read_parquet, valid_rows

TABLE = pa.table({"patient": ["007", "7"], "label": [0, 1]})


def test_a_path_an_open_file_and_its_content_give_the_same_table(tmp_path: Path) -> None:
    path = tmp_path / "patient=3" / "rows.parquet"
    path.parent.mkdir()
    pq.write_table(TABLE, path)
    assert read_parquet(str(path)) == TABLE
    assert read_parquet(path.read_bytes()) == TABLE
    with path.open("rb") as file:
        assert read_parquet(file, ["label"]) == TABLE.select(["label"])


def test_a_missing_column_is_an_error_that_names_it(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "rows.parquet")
    with pytest.raises(pa.ArrowInvalid, match="slide"):
        read_parquet(str(tmp_path / "rows.parquet"), ["label", "slide"])


def test_a_changed_page_is_an_error() -> None:
    buffer = pa.BufferOutputStream()
    pq.write_table(
        TABLE, buffer, write_page_checksum=True, compression="none", use_dictionary=False
    )
    content = bytes(buffer.getvalue())
    value = len(b"007").to_bytes(4, "little") + b"007"
    changed = content.replace(value, value[:-1] + b"8")
    assert changed != content
    with pytest.raises(pa.ArrowException):
        read_parquet(changed)


def test_numeric_columns_and_null_masks_equal_those_of_pyarrow() -> None:
    chunks = pa.chunked_array([[1.5, 2.5], [], [-3.0]])
    assert numeric_array(chunks).tolist() == [1.5, 2.5, -3.0]
    assert numeric_array(pa.chunked_array([], pa.int64())).tolist() == []
    with pytest.raises(TypeError):
        numeric_array(pa.chunked_array([[1, None]]))
    assert valid_rows(pa.chunked_array([["7", None], ["007"]])).tolist() == [True, False, True]


@given(st.lists(st.booleans(), max_size=20))
def test_the_rows_of_a_mask_are_those_of_numpy(mask: list[bool]) -> None:
    rows = np.arange(len(mask))
    filtered = filter_rows(pa.table({"row": rows}), np.array(mask, np.bool_))
    assert filtered["row"].to_pylist() == rows[np.array(mask, np.bool_)].tolist()


def test_reading_does_not_import_pandas(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "rows.parquet")
    code = (
        "import sys; from raysearch.data.parquet_files import *;"
        "column = read_parquet(sys.argv[1])['label']; numeric_array(column); valid_rows(column);"
        "filter_rows(read_parquet(sys.argv[1]), valid_rows(column));"
        "sys.exit('pandas' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "rows.parquet")]
    assert subprocess.run(command, check=False).returncode == 0
