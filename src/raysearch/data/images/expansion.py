"""How many bytes a compressed file may expand to.

Images are compressed already: a file that expands to far more than its size is an attack.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ExpansionLimit:
    """A limit of the expanded bytes of a file.

    Attributes:
        factor: A file may expand to so many times its size,
        min_bytes: and any file to so many bytes.
    """

    factor: int
    min_bytes: int

    def max_bytes(self, path: str | Path) -> int:
        """Return the number of bytes that the file at `path` may expand to."""
        return max(self.min_bytes, self.factor * Path(path).stat().st_size)


# The limit of archives and HDF5 files of images.
IMAGES = ExpansionLimit(factor=200, min_bytes=2**30)
# PCam's images are compressed in the HDF5 file; its labels take a twelfth.
COMPRESSED_HDF5 = ExpansionLimit(factor=20, min_bytes=256 * 2**20)
