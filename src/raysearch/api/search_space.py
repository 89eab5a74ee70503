"""A search space as Python values: the keys of a space file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from raysearch.config import space as validated
from raysearch.config.overrides import override
from raysearch.config.space_file import absolute_paths, parse_space, read_space
from raysearch.config.yaml_loader import dump_document, load_document
from raysearch.data.file_access import write_file
from raysearch.errors import SpaceError

# The keys in which texts may be paths of weights or encoders.
WITH_PATHS = ("space", "points_to_evaluate")


class Space:
    """A validated search space.

    The arguments are the keys of a space file, with the same values::

        Space(
            epochs=4,
            trials=20,
            space={
                "architecture": {"choice": ["cnn", "resnet18"]},
                "learning_rate": {"loguniform": [1e-4, 1e-2]},
            },
        )

    The folder before the keys is that of modules of your own; by default, it is the working folder.

    Two spaces are equal if they mean the same, such as one with a default and one without the key.

    Raises:
        SpaceError: With every error of the keys.
    """

    def __init__(self, folder: str | Path | None = None, /, **keys: object) -> None:
        self._folder = Path(folder or Path.cwd()).absolute()
        # A relative path would name another file from another folder.
        self._tree = {
            key: absolute_paths(_plain(value)) if key in WITH_PATHS else _plain(value)
            for key, value in keys.items()
        }
        self._validated = parse_space(self._tree, "Space", self._folder)

    @classmethod
    def read(cls, path: str | Path, overrides: Iterable[str] = ()) -> Space:
        """Read a space file.

        Args:
            path: The YAML file.
            overrides: Values that replace those of the file, such as `epochs=2` or
                `space.architecture=resnet18`.

        Raises:
            SpaceError: With every error of the file or the overrides.
        """
        if not Path(path).is_file():
            raise SpaceError(
                f"{path}: no such file; pass a search space such as searchspace/*.yaml"
            )
        read_space(path, overrides)  # raises errors with the lines of the file
        tree = override(load_document(path), overrides).tree
        return cls(Path(path).parent, **(tree if isinstance(tree, dict) else {}))

    def to_yaml(self) -> str:
        """Return the content of a space file with the same meaning."""
        return dump_document(self._tree)

    def write(self, path: str | Path) -> None:
        """Write the space file `path`; an existing one is replaced."""
        write_file(Path(path), self.to_yaml().encode())

    @property
    def folder(self) -> Path:
        """The folder in which modules of the user's are looked for."""
        return self._folder

    @property
    def hyperparameters(self) -> dict[str, str]:
        """The hyperparameters and their values, in words."""
        return {hparam.name: str(hparam) for hparam in self._validated.hparams}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self._validated == other._validated

    def __hash__(self) -> int:
        return hash(self._validated)

    def __repr__(self) -> str:
        keys = ", ".join(f"{name}={value!r}" for name, value in self._tree.items())
        return f"Space({keys})"

    @property
    def settings(self) -> validated.Space:
        """The validated space with all defaults."""
        return self._validated


def _plain(value: object) -> object:
    """Return a value of YAML: containers are dictionaries and lists, numbers those of Python."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value.expanduser().absolute())
    return value.item() if isinstance(value, np.generic) else value
