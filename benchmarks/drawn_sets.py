"""Draw a set in the layout of one that cannot be had: confocal images, or a tissue microarray.

    uv run python benchmarks/drawn_sets.py secm ~/secm
    uv run python benchmarks/drawn_sets.py secm-he ~/secm-he
    uv run python benchmarks/drawn_sets.py tma ~/tma

`secm` has as many images, patients and classes as the confocal images that were published on: 124
of 23 patients, adipose, fibrous and other. `secm-he` has those classes in H&E, of other patients,
to be learned from beside them. `tma` has round cores of four cancers, two of each patient. All are
`<class>/<patient>_<number>.png`. What is drawn is no tissue: a score says that a recipe runs and
learns, and nothing about a clinic.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 128
Draw = np.random.Generator
Picture = NDArray[np.float64]
DOWN, ACROSS = np.mgrid[:SIDE, :SIDE].astype(np.float64)
HAEMATOXYLIN, EOSIN, WHITE = ([0.36, 0.24, 0.55], [0.88, 0.60, 0.76], [0.97, 0.96, 0.97])


def discs(draw: Draw, count: int, radius: tuple[float, float], rim: float = 0.0) -> Picture:
    """`count` soft discs (rings of the width `rim`, where it is not 0), (SIDE, SIDE), 0 to 1."""
    found = np.zeros((SIDE, SIDE))
    for _ in range(count):
        down, across = draw.uniform(0, SIDE, 2)
        size, stretch = draw.uniform(*radius), draw.uniform(0.75, 1.3)
        far = np.hypot((DOWN - down) * stretch, (ACROSS - across) / stretch) - size
        shape = np.exp(-((far / rim) ** 2)) if rim else 1 / (1 + np.exp(2 * far))
        np.maximum(found, shape, out=found)
    return found


def fibres(draw: Draw) -> Picture:
    """Wavy strands, (SIDE, SIDE), 0 to 1."""
    angle, phase = draw.uniform(0, np.pi), draw.uniform(0, 2 * np.pi, 2)
    along = ACROSS * np.cos(angle) + DOWN * np.sin(angle)
    wave = np.sin((ACROSS * np.sin(angle) - DOWN * np.cos(angle)) / draw.uniform(9, 16) + phase[0])
    return np.asarray(0.5 + 0.5 * np.sin(along / draw.uniform(1.6, 3.0) + wave + phase[1]))


def breast(kind: str, draw: Draw) -> Picture:
    """How much there is of fat's walls, of strands or of nuclei, and a little of the others."""
    parts = {
        "adipose": discs(draw, 26, (10, 17), rim=1.5),
        "fibrous": fibres(draw),
        "other": discs(draw, int(draw.integers(60, 130)), (1.8, 3.6)),
    }
    others = sum((one for name, one in parts.items() if name != kind), np.zeros((SIDE, SIDE)))
    fraction = draw.uniform(0.5, 0.9)  # at half, a reader would not be sure either
    return np.asarray(fraction * parts[kind] + (1 - fraction) * others / 2)


def confocal(kind: str, draw: Draw, person: Draw) -> Picture:
    """Grey, bright where light comes back, with speckle, (SIDE, SIDE, 3)."""
    gain, dark = person.uniform(0.6, 1.0), person.uniform(0.02, 0.2)
    speckle = draw.gamma(4, 0.25, (SIDE, SIDE))
    return np.repeat((dark + gain * breast(kind, draw) * speckle)[..., None], 3, axis=2)


def stained(amount: Picture, person: Draw) -> Picture:
    """Haematoxylin on eosin by `amount`, in the tint of a patient, (SIDE, SIDE, 3)."""
    tint = person.normal(0, 0.04, 3)
    shade = amount[..., None]
    return np.asarray((np.array(EOSIN) + tint) * (1 - shade) + np.array(HAEMATOXYLIN) * shade)


def section(kind: str, draw: Draw, person: Draw) -> Picture:
    """An H&E section of what `confocal` has."""
    return stained(breast(kind, draw), person) + draw.normal(0, 0.02, (SIDE, SIDE, 1))


def core(kind: str, draw: Draw, person: Draw) -> Picture:
    """A round core on white: the cancers differ in the size, number and order of their nuclei."""
    small, large = (1.5, 2.6), (2.6, 4.4)
    amount = {
        "bladder": lambda: discs(draw, 110, large),
        "breast": lambda: 0.8 * discs(draw, 70, large) + 0.3 * fibres(draw),
        "lung": lambda: 0.7 * discs(draw, 12, (8, 14), rim=2.5) + 0.6 * discs(draw, 60, small),
        "lymphoma": lambda: discs(draw, 260, small),
    }[kind]()
    tissue = stained((amount * draw.uniform(0.7, 1.0)).clip(0, 1), person)
    inside = np.hypot(DOWN - SIDE / 2, ACROSS - SIDE / 2) < draw.uniform(0.4, 0.48) * SIDE
    picture = np.where(inside[..., None], tissue, np.array(WHITE))
    return picture + draw.normal(0, 0.02, (SIDE, SIDE, 1))


BREAST = ("adipose", "fibrous", "other")
CANCERS = ("bladder", "breast", "lung", "lymphoma")
# How one is drawn, the classes by their shares, patients, pictures, the first letter of a patient.
SETS: dict[str, tuple[Callable[[str, Draw, Draw], Picture], tuple[str, ...], int, int, str]] = {
    "secm": (confocal, (*BREAST, "other", "other"), 23, 124, "S"),
    "secm-he": (section, BREAST, 30, 120, "H"),
    "tma": (core, CANCERS, 100, 200, "T"),
}


def write_set(kind: str, out: Path) -> list[Path]:
    """The files of the set `kind`, written below `out`; of a tumour a patient has one kind only."""
    paint, classes, patients, pictures, letter = SETS[kind]
    paths = []
    for number in range(pictures):
        patient, of_it = number % patients, number // patients
        draw, person = np.random.default_rng([1, number]), np.random.default_rng([2, patient])
        name = classes[(patient if paint is core else number) % len(classes)]
        path = out / name / f"{letter}{patient + 1:03d}_{of_it + 1}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = (paint(name, draw, person).clip(0, 1) * 255).round().astype(np.uint8)
        Image.fromarray(picture).save(path)
        paths.append(path)
    return paths


def main() -> None:
    """Draw it, and say how to shard it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("kind", choices=SETS)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    paths = write_set(asked.kind, asked.out)
    print(f"{len(paths)} images; next: raysearch shard {asked.out} data/{asked.kind}")
    size = 96 if asked.kind == "tma" else 64
    print(f"    --format folder --size {size} --patient '([A-Z][0-9]+)_'")


if __name__ == "__main__":
    main()
