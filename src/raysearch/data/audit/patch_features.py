"""Computes numbers that describe a patch: color statistics and hashes that find duplicates."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from raysearch.data.audit.shard_reader import Images, remove_padding

FloatArray = NDArray[np.float32]
LEVELS = np.arange(256, dtype=np.float64)
# Optical density -log10(I / I0) of each level, by the Beer-Lambert law (Ruifrok and Johnston, 2001,
# "Quantification of histochemical staining by color deconvolution").
OPTICAL_DENSITY = -np.log10(np.maximum(LEVELS, 1) / 255)
PERCENTILES = (0.1, 0.9)
# Random 64-bit multipliers, which distribute histograms over the hash values.
HASH_WEIGHTS = np.random.default_rng(277_524).integers(0, 2**64, 768, np.uint64)
THUMBNAIL_SIZE = (9, 8)  # (width, height): eight differences in each of eight rows
BITS = np.uint64(1) << np.arange(64, dtype=np.uint64)
BLOCK_BYTES = 4 * 2**20


@dataclass(frozen=True)
class PatchFeatures:
    """Features of N patches, computed without white padding; intensities range from 0 to 255.

    Attributes:
        color_statistics: Means, standard deviations, 10th and 90th percentiles of red, green and
            blue, then the means of hue, saturation and value, shape (N, 15).
        optical_densities: Mean optical density of each channel, shape (N, 3).
        mean_intensities: Mean over all values, shape (N,).
        intensity_stds: Standard deviation over all values, shape (N,).
        channel_stds: Root of the mean variance within a channel, shape (N,); 0 for a flat color.
        chromas: Mean over pixels of the largest minus the smallest channel, shape (N,).
        histogram_hashes: Hash of the channels' histograms, shape (N,); equal for a patch and its
            rotated or flipped copies.
        difference_hashes: Difference hash of the thumbnail, shape (N,).
        thumbnails: Gray thumbnails, shape (N, 8, 9).
    """

    color_statistics: FloatArray
    optical_densities: FloatArray
    mean_intensities: FloatArray
    intensity_stds: FloatArray
    channel_stds: FloatArray
    chromas: FloatArray
    histogram_hashes: NDArray[np.uint64]
    difference_hashes: NDArray[np.uint64]
    thumbnails: NDArray[np.uint8]


def compute_patch_features(
    batches: Iterable[tuple[NDArray[np.int64], Images]], padded: NDArray[np.bool_]
) -> PatchFeatures:
    """Compute the features of all rows on all cores.

    Args:
        batches: Row numbers, shape (n,), and pixels, shape (n, H, W, 3), of each batch.
        padded: Whether a row has white padding to ignore, shape (N,).

    Returns:
        The features in the order of the batches.
    """
    cv2.setNumThreads(1)  # the thread pool already uses every core
    blocks: list[PatchFeatures] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for rows, pixels in batches:
            step = max(1, BLOCK_BYTES // pixels[0].size)
            starts = range(0, len(rows), step)
            pixel_blocks = [pixels[start : start + step] for start in starts]
            padded_blocks = [padded[rows[start : start + step]] for start in starts]
            blocks += pool.map(compute_block_features, pixel_blocks, padded_blocks)
    return concatenated(blocks)


def concatenated(blocks: Sequence[PatchFeatures]) -> PatchFeatures:
    """Return the features of all blocks."""
    return PatchFeatures(
        **{
            feature.name: np.concatenate([getattr(block, feature.name) for block in blocks])
            for feature in fields(PatchFeatures)
        }
    )


def features_from_arrays(arrays: Mapping[str, NDArray[Any]], num_rows: int) -> PatchFeatures | None:
    """Return the features of `num_rows` rows by name; None if the arrays are not those of them."""
    names = {feature.name for feature in fields(PatchFeatures)}
    if set(arrays) != names or any(len(array) != num_rows for array in arrays.values()):
        return None
    return PatchFeatures(**arrays)


def compute_block_features(pixels: Images, padded: NDArray[np.bool_]) -> PatchFeatures:
    """Compute the features of `pixels`, shape (N, H, W, 3), in one thread."""
    images = [
        remove_padding(image) if is_padded else image
        for image, is_padded in zip(pixels, padded, strict=True)
    ]
    histograms = channel_histograms(images)
    num_pixels = histograms[:, :1].sum(axis=2)
    fractions = histograms / num_pixels[:, :, None]
    means = fractions @ LEVELS
    squares = fractions @ LEVELS**2
    stds = np.sqrt(np.maximum(squares - means**2, 0))
    overall_means = means.mean(axis=1)
    cumulative = histograms.cumsum(axis=2)
    min_counts = [percentile * num_pixels[:, :, None] - 1e-3 for percentile in PERCENTILES]
    percentiles = [(cumulative < min_count).sum(axis=2) for min_count in min_counts]
    hsv, chromas = map(np.array, zip(*map(_hsv_and_chroma, images), strict=True))
    thumbnails = np.stack([_thumbnail(image) for image in images])
    return PatchFeatures(
        color_statistics=np.hstack([means, stds, *percentiles, hsv]).astype(np.float32),
        optical_densities=(fractions @ OPTICAL_DENSITY).astype(np.float32),
        mean_intensities=overall_means.astype(np.float32),
        intensity_stds=np.sqrt(np.maximum(squares.mean(axis=1) - overall_means**2, 0)).astype(
            np.float32
        ),
        channel_stds=np.sqrt((stds**2).mean(axis=1)).astype(np.float32),
        chromas=chromas.astype(np.float32),
        histogram_hashes=hash_histograms(histograms),
        difference_hashes=_difference_hashes(thumbnails),
        thumbnails=thumbnails,
    )


def channel_histograms(images: Sequence[Images]) -> FloatArray:
    """Count the pixels of each level in each channel of N images, shape (N, 3, 256)."""
    histograms = np.empty((len(images), 3, 256), np.float32)
    for row, image in enumerate(images):
        for channel in range(3):
            cv2.calcHist([image], [channel], None, [256], [0, 256], histograms[row, channel])
    return histograms


def hash_histograms(histograms: FloatArray) -> NDArray[np.uint64]:
    """Hash histograms of shape (N, 3, 256) to 64 bits each, shape (N,)."""
    counts = histograms.reshape(len(histograms), -1).astype(np.uint64)
    hashes: NDArray[np.uint64] = counts @ HASH_WEIGHTS
    return hashes


def _difference_hashes(thumbnails: Images) -> NDArray[np.uint64]:
    """Set a bit for each pixel of (N, 8, 9) that is brighter than its left neighbor."""
    is_brighter = (thumbnails[:, :, 1:] > thumbnails[:, :, :-1]).reshape(-1, 64)
    hashes: NDArray[np.uint64] = (is_brighter * BITS).sum(axis=1, dtype=np.uint64)
    return hashes


def _hsv_and_chroma(image: Images) -> tuple[tuple[float, float, float], float]:
    """Return the mean hue, saturation and value, and the mean chroma.

    The hue is shifted by half a circle. Pink and purple then lie in the middle of the scale instead
    of at both ends.
    """
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    shifted_hue = np.where(hue < 90, hue + 90, hue - 90)
    red, green, blue = cv2.split(image)
    max_channel = cv2.mean(value)[0]
    min_channel = cv2.mean(cv2.min(cv2.min(red, green), blue))[0]
    hsv = (float(shifted_hue.mean()), cv2.mean(saturation)[0], max_channel)
    return hsv, max_channel - min_channel


def _thumbnail(image: Images) -> Images:
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(gray, THUMBNAIL_SIZE, interpolation=cv2.INTER_AREA), np.uint8)
