"""Numbers that stand for a patch: its colours, its darkness, and hashes that survive changes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from raysearch.data.audit.shard_reader import Images, unpadded

Floats = NDArray[np.float32]
LEVELS = np.arange(256, dtype=np.float64)
# Light that passes, of 255, to optical density -log10(I / I0), by Beer and Lambert as in Ruifrok
# and Johnston (2001), "Quantification of histochemical staining by color deconvolution".
DENSITY = -np.log10(np.maximum(LEVELS, 1) / 255)
LOW, HIGH = 0.1, 0.9
# Any fixed odd-looking numbers do: they spread histograms over 64 bits.
SPREAD = np.random.default_rng(277_524).integers(0, 2**64, 768, np.uint64)
THUMB = (9, 8)  # columns and rows: eight differences in each of eight rows
BITS = np.uint64(1) << np.arange(64, dtype=np.uint64)
BLOCK_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Measures:
    """What was measured of N patches, each without the white that padded it.

    `colours` (N, 15): means, standard deviations, tenth and ninetieth percentiles of red, green and
    blue, then the means of hue, saturation and value. `densities` (N, 3): mean optical density a
    channel. `means` and `deviations` (N,) are over all values, 0 to 255; `textures` (N,), the
    root of the mean variance within a channel, is 0 for one flat colour; `chromas` (N,) is the mean
    over pixels of the largest minus the smallest channel. `keys` (N,): a hash of the histogram,
    the same for a patch turned or flipped. `dhashes` (N,) and `thumbs` (N, 8, 9): the difference
    hash and the grey thumbnail that it is of.
    """

    colours: Floats
    densities: Floats
    means: Floats
    deviations: Floats
    textures: Floats
    chromas: Floats
    keys: NDArray[np.uint64]
    dhashes: NDArray[np.uint64]
    thumbs: NDArray[np.uint8]


def measure(
    pieces: Iterable[tuple[NDArray[np.int64], Images]], padded: NDArray[np.bool_]
) -> Measures:
    """The measures of all rows of `pieces`, (row numbers, pixels), in their order, on all cores.

    `padded` (N,) says of which rows white is to be left out.
    """
    workers = os.cpu_count() or 1
    cv2.setNumThreads(1)  # threads of ours already take every core
    found: list[Measures] = []
    with ThreadPoolExecutor(workers) as pool:
        for rows, pixels in pieces:
            step = max(1, BLOCK_BYTES // pixels[0].size)
            starts = range(0, len(rows), step)
            blocks = [pixels[at : at + step] for at in starts]
            cut = [padded[rows[at : at + step]] for at in starts]
            found += pool.map(measure_block, blocks, cut)
    return Measures(
        **{
            one.name: np.concatenate([getattr(part, one.name) for part in found])
            for one in fields(Measures)
        }
    )


def measure_block(pixels: Images, padded: NDArray[np.bool_]) -> Measures:
    """The measures of `pixels` (N, H, W, 3)."""
    images = [unpadded(image) if cut else image for image, cut in zip(pixels, padded, strict=True)]
    counts = histograms(images)
    sizes = counts[:, :1].sum(axis=2)
    fractions = counts / sizes[:, :, None]
    means = fractions @ LEVELS
    squares = fractions @ LEVELS**2
    deviations = np.sqrt(np.maximum(squares - means**2, 0))
    overall = means.mean(axis=1)
    cumulated = counts.cumsum(axis=2)
    wanted = [level * sizes[:, :, None] - 1e-3 for level in (LOW, HIGH)]
    percentiles = [(cumulated < least).sum(axis=2) for least in wanted]
    hsv, chromas = (np.array(one) for one in zip(*map(_shades, images), strict=True))
    thumbs = np.stack([_thumb(image) for image in images])
    return Measures(
        colours=np.hstack([means, deviations, *percentiles, hsv]).astype(np.float32),
        densities=(fractions @ DENSITY).astype(np.float32),
        means=overall.astype(np.float32),
        deviations=np.sqrt(np.maximum(squares.mean(axis=1) - overall**2, 0)).astype(np.float32),
        textures=np.sqrt((deviations**2).mean(axis=1)).astype(np.float32),
        chromas=chromas.astype(np.float32),
        keys=histogram_keys(counts),
        dhashes=((thumbs[:, :, 1:] > thumbs[:, :, :-1]).reshape(-1, 64) * BITS).sum(
            axis=1, dtype=np.uint64
        ),
        thumbs=thumbs,
    )


def histograms(images: Sequence[Images]) -> Floats:
    """How many pixels of each of N images have each of 256 levels, (N, 3, 256)."""
    found = np.empty((len(images), 3, 256), np.float32)
    for row, image in enumerate(images):
        for channel in range(3):
            cv2.calcHist([image], [channel], None, [256], [0, 256], found[row, channel])
    return found


def histogram_keys(counts: Floats) -> NDArray[np.uint64]:
    """A hash of each of the histograms `counts` (N, 3, 256), (N,)."""
    keys: NDArray[np.uint64] = counts.reshape(len(counts), -1).astype(np.uint64) @ SPREAD
    return keys


def _shades(image: Images) -> tuple[tuple[float, float, float], float]:
    """The mean hue, saturation and value, and the mean chroma.

    Hue is turned by half a circle: pink and purple then lie in the middle of the scale, and not
    at both of its ends.
    """
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    turned = np.where(hue < 90, hue + 90, hue - 90)
    red, green, blue = cv2.split(image)
    brightest, darkest = cv2.mean(value)[0], cv2.mean(cv2.min(cv2.min(red, green), blue))[0]
    mean = (float(turned.mean()), cv2.mean(saturation)[0], brightest)
    return mean, brightest - darkest


def _thumb(image: Images) -> Images:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, THUMB, interpolation=cv2.INTER_AREA), np.uint8)
