"""Generates a synthetic data set in the layout of one that is not public: confocal or microarray.

    .venv/bin/python benchmarks/drawn_sets.py secm ~/secm
    .venv/bin/python benchmarks/drawn_sets.py secm-he ~/secm-he
    .venv/bin/python benchmarks/drawn_sets.py tma ~/tma

`secm` has as many images, patients and classes as a published set of confocal images: 124 images of
23 patients; adipose, fibrous and other. `secm-he` has the same classes in H&E, of other patients,
as auxiliary training data. `tma` has round cores of four cancers, two of each patient. All files
are `<class>/<patient>_<number>.png`. The images are no tissue: a score on them shows that a
configuration runs and learns, and nothing about clinical use.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 128
Rng = np.random.Generator
FloatImage = NDArray[np.float64]
Y, X = np.mgrid[:SIDE, :SIDE].astype(np.float64)
HEMATOXYLIN, EOSIN, WHITE = ([0.36, 0.24, 0.55], [0.88, 0.60, 0.76], [0.97, 0.96, 0.97])


def discs(rng: Rng, count: int, radius: tuple[float, float], rim: float = 0.0) -> FloatImage:
    """`count` soft discs, or rings of the width `rim`, shape (SIDE, SIDE), 0 to 1."""
    image = np.zeros((SIDE, SIDE))
    for _ in range(count):
        y, x = rng.uniform(0, SIDE, 2)
        size, stretch = rng.uniform(*radius), rng.uniform(0.75, 1.3)
        distance = np.hypot((Y - y) * stretch, (X - x) / stretch) - size
        disc = np.exp(-((distance / rim) ** 2)) if rim else 1 / (1 + np.exp(2 * distance))
        np.maximum(image, disc, out=image)
    return image


def fibers(rng: Rng) -> FloatImage:
    """Wavy strands, shape (SIDE, SIDE), 0 to 1."""
    angle, phases = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi, 2)
    position = X * np.cos(angle) + Y * np.sin(angle)
    wave = np.sin((X * np.sin(angle) - Y * np.cos(angle)) / rng.uniform(9, 16) + phases[0])
    return np.asarray(0.5 + 0.5 * np.sin(position / rng.uniform(1.6, 3.0) + wave + phases[1]))


def breast(kind: str, rng: Rng) -> FloatImage:
    """Mostly fat cells, fibers or nuclei, as `kind` says, with a little of the others."""
    textures = {
        "adipose": discs(rng, 26, (10, 17), rim=1.5),
        "fibrous": fibers(rng),
        "other": discs(rng, int(rng.integers(60, 130)), (1.8, 3.6)),
    }
    background = sum(
        (texture for name, texture in textures.items() if name != kind), np.zeros((SIDE, SIDE))
    )
    fraction = rng.uniform(0.5, 0.9)  # at 0.5, an expert could not decide either
    return np.asarray(fraction * textures[kind] + (1 - fraction) * background / 2)


def confocal(kind: str, rng: Rng, patient_rng: Rng) -> FloatImage:
    """A grey confocal image with speckle, shape (SIDE, SIDE, 3)."""
    gain, offset = patient_rng.uniform(0.6, 1.0), patient_rng.uniform(0.02, 0.2)
    speckle = rng.gamma(4, 0.25, (SIDE, SIDE))
    return np.repeat((offset + gain * breast(kind, rng) * speckle)[..., None], 3, axis=2)


def stain(opacity: FloatImage, patient_rng: Rng) -> FloatImage:
    """Hematoxylin on eosin by `opacity`, with the tint of a patient, shape (SIDE, SIDE, 3)."""
    tint = patient_rng.normal(0, 0.04, 3)
    nuclei = opacity[..., None]
    return np.asarray((np.array(EOSIN) + tint) * (1 - nuclei) + np.array(HEMATOXYLIN) * nuclei)


def section(kind: str, rng: Rng, patient_rng: Rng) -> FloatImage:
    """An H&E section of the same textures as `confocal`."""
    return stain(breast(kind, rng), patient_rng) + rng.normal(0, 0.02, (SIDE, SIDE, 1))


def core(kind: str, rng: Rng, patient_rng: Rng) -> FloatImage:
    """A round core on white; cancers differ in the size, number and arrangement of nuclei."""
    small, large = (1.5, 2.6), (2.6, 4.4)
    opacity = {
        "bladder": lambda: discs(rng, 110, large),
        "breast": lambda: 0.8 * discs(rng, 70, large) + 0.3 * fibers(rng),
        "lung": lambda: 0.7 * discs(rng, 12, (8, 14), rim=2.5) + 0.6 * discs(rng, 60, small),
        "lymphoma": lambda: discs(rng, 260, small),
    }[kind]()
    tissue = stain((opacity * rng.uniform(0.7, 1.0)).clip(0, 1), patient_rng)
    inside = np.hypot(Y - SIDE / 2, X - SIDE / 2) < rng.uniform(0.4, 0.48) * SIDE
    image = np.where(inside[..., None], tissue, np.array(WHITE))
    return image + rng.normal(0, 0.02, (SIDE, SIDE, 1))


class DataSet(NamedTuple):
    """How a data set is generated: `classes` contains a class as often as its relative frequency.

    `prefix` is the first letter of a patient's name.
    """

    generate: Callable[[str, Rng, Rng], FloatImage]
    classes: tuple[str, ...]
    num_patients: int
    num_images: int
    prefix: str


BREAST = ("adipose", "fibrous", "other")
CANCERS = ("bladder", "breast", "lung", "lymphoma")
DATA_SETS = {
    "secm": DataSet(confocal, (*BREAST, "other", "other"), 23, 124, "S"),
    "secm-he": DataSet(section, BREAST, 30, 120, "H"),
    "tma": DataSet(core, CANCERS, 100, 200, "T"),
}


def write_set(kind: str, out: Path) -> list[Path]:
    """Write the files of the data set `kind` to `out`; in `tma`, a patient has one cancer only."""
    data_set = DATA_SETS[kind]
    paths = []
    for number in range(data_set.num_images):
        patient, image_number = number % data_set.num_patients, number // data_set.num_patients
        rng, patient_rng = np.random.default_rng([1, number]), np.random.default_rng([2, patient])
        class_index = patient if data_set.generate is core else number
        name = data_set.classes[class_index % len(data_set.classes)]
        path = out / name / f"{data_set.prefix}{patient + 1:03d}_{image_number + 1}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = data_set.generate(name, rng, patient_rng).clip(0, 1)
        Image.fromarray((image * 255).round().astype(np.uint8)).save(path)
        paths.append(path)
    return paths


def main() -> None:
    """Write the data set, and print the command that shards it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("kind", choices=DATA_SETS)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    paths = write_set(options.kind, options.out)
    print(f"{len(paths)} images; next: raysearch shard {options.out} data/{options.kind}")
    size = 96 if options.kind == "tma" else 64
    print(f"    --format folder --size {size} --patient '([A-Z][0-9]+)_'")


if __name__ == "__main__":
    main()
