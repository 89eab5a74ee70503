"""The features of a patch equal their definition in NumPy."""

import numpy as np

from raysearch.data.audit.patch_features import compute_block_features
from support.audit_sets import Images


def test_features_equal_their_definition_in_numpy(patches: Images) -> None:
    features = compute_block_features(patches, np.zeros(len(patches), np.bool_))
    values = patches.reshape(len(patches), -1, 3).astype(np.float64)
    colors = features.color_statistics
    np.testing.assert_allclose(colors[:, :3], values.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(colors[:, 3:6], values.std(axis=1), rtol=1e-5)
    np.testing.assert_allclose(features.mean_intensities, values.mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(features.intensity_stds, values.std(axis=(1, 2)), rtol=1e-5)
    channel_stds = np.sqrt(values.var(axis=1).mean(axis=1))
    np.testing.assert_allclose(features.channel_stds, channel_stds, rtol=1e-5)
    chromas = (values.max(axis=2) - values.min(axis=2)).mean(axis=1)
    np.testing.assert_allclose(features.chromas, chromas, rtol=1e-4)
    densities = -np.log10(np.maximum(values, 1) / 255).mean(axis=1)
    np.testing.assert_allclose(features.optical_densities, densities, rtol=1e-4)
    percentiles = np.percentile(values, 10, axis=1, method="inverted_cdf")
    np.testing.assert_allclose(colors[:, 6:9], percentiles)
