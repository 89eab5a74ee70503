"""Slides of three formats with tissue and tumor in polygons, and the table of the slides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from support.scanned_slides import (
    Ring,
    aperio_description,
    paint,
    write_ome_tiff,
    write_polygons,
    write_tiff,
)

SIZE = (1600, 1200)
TISSUE: Ring = [(150, 100), (1500, 160), (1400, 1100), (200, 1050)]


def tumor_of(number: int) -> Ring:
    x, y = 500 + 90 * number, 400 + 40 * number
    return [(x, y), (x + 400, y + 50), (x + 330, y + 420), (x - 60, y + 300)]


@dataclass(frozen=True)
class Cohort:
    """Slides of 3 patients at 2 sites, with polygons, in a folder for tests that change nothing."""

    slides: Path
    annotations: Path
    labels: Path


def write_cohort(folder: Path) -> Cohort:
    cohort = Cohort(folder / "slides", folder / "annotations", folder / "slides.csv")
    cohort.slides.mkdir()
    lines = ["slide,patient,site,scanner"]
    for number in range(3):
        pixels = paint(SIZE, [TISSUE], [tumor_of(number)], number)
        name = f"case{number}"
        if number == 0:
            description = aperio_description(*SIZE, 0.25)
            write_tiff(cohort.slides / f"{name}.svs", pixels, None, description=description)
        elif number == 1:
            write_tiff(cohort.slides / f"{name}.tiff", pixels, 0.25, compression="jpeg")
        else:
            write_ome_tiff(cohort.slides / f"{name}.ome.tif", pixels, 0.25)
        regions = [("Stroma", TISSUE), ("Tumor", tumor_of(number))]
        write_polygons(cohort.annotations / f"{name}.geojson", regions)
        lines.append(f"{name},patient{number},site{number % 2},{'Lab 7' if number == 1 else ''}")
    cohort.labels.write_text("\n".join(lines))
    return cohort
