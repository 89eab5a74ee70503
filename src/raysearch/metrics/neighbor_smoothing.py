"""What the patches near a patch say of it, where it is known where they lie.

A tumour is larger than a patch: one that the net is not sure of is told by those around it. No
label of them is asked for, so a slide that nobody has looked at has it, too. To the log probability
of each class comes what the others of the slide say of it beyond its share, the nearer the more:

    log p[i, c] + weight * sum_j w[i, j] (p[j, c] - share[c]) / (sum_j w[i, j] + doubt)

with w[i, j] = exp(-distance / reach). A patch that is alone keeps what it has.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

# In patch sides; and the weight of neighbours that counts as much as not knowing.
REACHES = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
DOUBTS = (0.5, 2.0)
LEAST = 1e-6
# Distances that are held at once, 32 MB.
MAX_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Places:
    """Where patches lie: `slides` text (N,), `xs` and `ys` float64 (N,) in patch sides."""

    slides: NDArray[np.str_]
    xs: Floats
    ys: Floats


@dataclass(frozen=True)
class Around:
    """What the others of each patch's slide say.

    `said`: the sum of their probabilities, each by its nearness, (N, C); `near`: the sum of the
    nearnesses, (N, 1).
    """

    said: Floats
    near: Floats

    def __getitem__(self, rows: Mask) -> Around:
        return Around(self.said[rows], self.near[rows])

    def beyond(self, fractions: Floats, doubt: float) -> Floats:
        """What they say of each class beyond its share, (N, C), less where they are few or far."""
        found: Floats = (self.said - fractions * self.near) / (self.near + doubt)
        return found


@dataclass(frozen=True)
class Context:
    """How much, and how far, the patches around count; `fractions` are the classes', (C,)."""

    reach: float
    doubt: float
    weight: float
    fractions: tuple[float, ...]

    @classmethod
    def read(cls, text: str) -> Context:
        """What `str` wrote."""
        found = json.loads(text)
        return cls(**{**found, "fractions": tuple(found["fractions"])})

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    def __call__(self, probabilities: Floats, places: Places) -> Floats:
        """`probabilities` (N, C) of the patches at `places`, each with what those near it say."""
        return self.of(probabilities, around(probabilities, places, self.reach))

    def of(self, probabilities: Floats, near: Around) -> Floats:
        """The same, where it is known already what those within the reach say."""
        said = near.beyond(np.array(self.fractions), self.doubt)
        found: Floats = softmax(_logs(probabilities) + self.weight * said, axis=1)
        return found


def around(probabilities: Floats, places: Places, reach: float) -> Around:
    """What the others of each patch's slide say by `probabilities` (N, C), the nearer the more.

    Each slide's patches are all compared with each other.
    """
    probabilities = np.asarray(probabilities, np.float64)
    said, near = np.zeros_like(probabilities), np.zeros((len(probabilities), 1))
    for rows, others in _blocks(places.slides):
        across = np.subtract.outer(places.xs[rows], places.xs[others])
        down = np.subtract.outer(places.ys[rows], places.ys[others])
        weights = np.exp(-np.hypot(across, down) / reach)
        weights[rows[:, None] == others] = 0.0
        said[rows] = weights @ probabilities[others]
        near[rows] = weights.sum(axis=1, keepdims=True)
    return Around(said, near)


def _blocks(slides: NDArray[np.str_]) -> Iterator[tuple[Ints, Ints]]:
    """Rows of a slide, few enough to be compared with all of that slide at once, and all of it."""
    owner = np.unique(slides, return_inverse=True)[1]
    order = np.argsort(owner, kind="stable")
    for others in np.split(order, np.flatnonzero(np.diff(owner[order])) + 1):
        step = max(1, MAX_AT_ONCE // len(others))
        for start in range(0, len(others), step):
            yield others[start : start + step], others


def fit_context(labels: Ints, probabilities: Floats, by_reach: Mapping[float, Around]) -> Context:
    """The context by which `probabilities` (N, C) tell `labels` (N,) best, by log loss.

    They must come from nets that did not learn from these patches. What the nets are too sure of,
    and how often they are wrong about a class, is fitted with it, and left out of it: the scores of
    several nets stay as they are to each other. Neighbours that mislead have the weight 0.
    """
    fractions = np.bincount(labels, minlength=probabilities.shape[1]) / len(labels)
    found = []
    for (reach, near), doubt in itertools.product(by_reach.items(), DOUBTS):
        loss, weight = _fitted(labels, _logs(probabilities), near.beyond(fractions, doubt))
        found.append((loss, Context(reach, doubt, weight, tuple(fractions.tolist()))))
    return min(found, key=lambda one: one[0])[1]


def _fitted(labels: Ints, own: Floats, said: Floats) -> tuple[float, float]:
    """The log loss of sharpness * (own + weight * said) + offsets at its least, and the weight."""
    told = np.eye(own.shape[1])[labels]

    def loss(hparams: Floats) -> tuple[float, Floats]:
        logs = log_softmax(hparams[0] * own + hparams[1] * said + hparams[2:], axis=1)
        wrong = (np.exp(logs) - told) / len(labels)
        slopes = [(wrong * own).sum(), (wrong * said).sum(), *wrong.sum(axis=0)]
        return -float((logs * told).sum()) / len(labels), np.array(slopes)

    begin = np.zeros(2 + own.shape[1])
    begin[0] = 1.0
    bounds = [(LEAST, None), (0.0, None), *[(None, None)] * own.shape[1]]
    found = minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=bounds)
    return float(found.fun), float(found.x[1] / found.x[0])


def _logs(probabilities: Floats) -> Floats:
    found: Floats = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    return found
