"""A search space: what may vary, what is measured, and what it may cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from raysearch.data.shards.shard_manifest import LABEL
from raysearch.data.splits.split_creation import kfold_name
from raysearch.models.architectures import net_hparams
from raysearch.training.components import DEFAULTS

Kind = Literal["fixed", "choice", "uniform", "loguniform", "int", "logint"]
# The scheme of as many folds as the hyperparameter `folds` says.
FOLDS = "folds"
RANGES = ("uniform", "loguniform", "int", "logint")
Rule = Literal["forest", "promotion", "asha", "none"]
# What becomes the champion: one net of all patients, or the nets of a fresh seed's folds.
ChampionKind = Literal["refit", "ensemble"]
Value = str | int | float | bool
# Other hyperparameters by name, and what they must be: all of them.
Conditions = tuple[tuple[str, tuple[Value, ...]], ...]
Point = tuple[tuple[str, Value], ...]


@dataclass(frozen=True)
class Hyperparameter:
    """One hyperparameter: its name, its values, and under which other values it exists.

    `values` are the choices, or (low, high) with both ends included.
    """

    name: str
    kind: Kind
    values: tuple[Value, ...]
    when: Conditions = ()

    def active(self, chosen: Mapping[str, Value]) -> bool:
        """Whether this hyperparameter exists beside the values `chosen` so far."""
        return all(chosen.get(name) in values for name, values in self.when)

    def each(self) -> tuple[Value, ...]:
        """Every value it may take, where these are not a range of floats; that range otherwise."""
        if self.kind in ("int", "logint"):
            return tuple(range(int(self.values[0]), int(self.values[1]) + 1))
        return self.values

    def largest(self) -> Value:
        """The largest of its values, where these are numbers; the last otherwise."""
        numbers = [one for one in self.values if isinstance(one, (int, float))]
        return max(numbers) if len(numbers) == len(self.values) else self.values[-1]

    def beside(self, architecture: str) -> bool:
        """Whether it may exist beside this architecture."""
        return all(architecture in values for name, values in self.when if name == "architecture")

    def __str__(self) -> str:
        text = ", ".join(str(value) for value in self.values)
        if self.kind in RANGES:
            text = f"{self.kind} {self.values[0]} to {self.values[1]}"
        for name, values in self.when:
            text += f"  when {name} is {' or '.join(str(value) for value in values)}"
        return text


@dataclass(frozen=True)
class Resources:
    """What one trial takes: CPU cores, and GPUs, of which it may be a fraction.

    `prices` are dollars an hour for a machine of each node type that the cluster may have.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    prices: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Stopping:
    """How weak trials end early, or wait while better ones train.

    `rule`: `forest` (a model of the curves picks what trains next), `promotion` (a trial waits at
    a rung until it is among the best 1/`reduction` there), `asha` (it stops unless it is), `none`.
    The first rung lies at `grace` epochs. `patience` epochs of a fold without improvement end a
    trial, where it is above 0, but not the last that can still finish where none has; so does a
    paired test over folds that says with a p below `paired` that it is worse than the best.
    """

    grace: int
    reduction: int = 3
    rule: Rule = "forest"
    patience: int = 0
    paired: float = 0.0


@dataclass(frozen=True)
class Sampling:
    """Who proposes new trials, by name, with options of its own."""

    name: str = "forest"
    options: tuple[tuple[str, Value], ...] = ()


@dataclass(frozen=True)
class Budget:
    """What the whole study may take; None for no limit.

    `hours` are of the clock, `gpu_hours` of the devices that trials held, `dollars` of the
    machines by `Resources.prices`. `no_improvement` counts finished trials since the last better
    one; `target` is a value of the objective that is enough.
    """

    hours: float | None = None
    gpu_hours: float | None = None
    dollars: float | None = None
    fold_epochs: int | None = None
    no_improvement: int | None = None
    target: float | None = None


@dataclass(frozen=True)
class Ceiling:
    """A second metric, of a trial's net, that may be `most` at most: a constraint."""

    metric: str
    most: float


@dataclass(frozen=True)
class Space:
    """A search-space file, checked: hyperparameters in an order in which each comes after its conditions.

    The champion is judged again with as many `repeats`; `champion` says what it is made of.
    """

    hparams: tuple[Hyperparameter, ...]
    metric: str
    mode: Literal["max", "min"]
    epochs: int
    trials: int
    seed: int
    stopping: Stopping
    resources: Resources = Resources()
    data: str | None = None
    task: str = LABEL
    split: str | None = None
    validation: str = FOLDS
    auxiliary: tuple[str, ...] = ()
    sampling: Sampling = Sampling()
    budget: Budget = Budget()
    points: tuple[Point, ...] = ()
    constraints: tuple[str, ...] = ()
    ceilings: tuple[Ceiling, ...] = ()
    warm_start: tuple[str, ...] = ()
    repeats: int = 1
    champion: ChampionKind = "refit"

    def flat(self) -> dict[str, str]:
        """Every setting by the dotted name that the file has for it, to compare two spaces."""
        rows = {
            f"space.{hyperparameter.name}": str(hyperparameter)
            if hyperparameter.kind in RANGES
            else f"{hyperparameter.kind} {hyperparameter}"
            for hyperparameter in self.hparams
        }
        for name in (
            "metric",
            "mode",
            "epochs",
            "trials",
            "seed",
            "data",
            "task",
            "split",
            "validation",
            "repeats",
            "champion",
        ):
            rows[name] = str(getattr(self, name))
        rows |= {f"stopping.{key}": str(value) for key, value in asdict(self.stopping).items()}
        rows |= {f"resources.{key}": str(getattr(self.resources, key)) for key in ("cpus", "gpus")}
        rows |= {
            f"resources.prices.{name}": f"{price:.15g}" for name, price in self.resources.prices
        }
        rows["sampler"] = self.sampling.name
        rows |= {f"sampler.{key}": str(value) for key, value in self.sampling.options}
        limits = asdict(self.budget).items()
        rows |= {f"budget.{key}": f"{value:.15g}" for key, value in limits if value is not None}
        for number, point in enumerate(self.points, 1):
            rows[f"points.{number}"] = " ".join(f"{name}={value}" for name, value in point)
        rows |= {f"constraints.{at}": text for at, text in enumerate(self.constraints, 1)}
        rows |= {f"ceilings.{one.metric}": f"{one.most:.15g}" for one in self.ceilings}
        for name in ("auxiliary", "warm_start"):
            rows[name] = ", ".join(getattr(self, name)) or "none"
        return rows

    def values_of(self, name: str, default: Value) -> tuple[Value, ...]:
        """The values that the choice or fixed hyperparameter `name` may take."""
        found = next(
            (hyperparameter for hyperparameter in self.hparams if hyperparameter.name == name), None
        )
        if found is None:
            return (default,)
        return found.each()

    def weights_of(self, architecture: str) -> tuple[Value, ...]:
        """The values of the hyperparameter `weights` that may exist beside `architecture`."""
        found = [one for one in self.hparams if one.name == "weights" and one.beside(architecture)]
        return tuple(value for one in found for value in one.each())

    def schemes(self) -> tuple[str, ...]:
        """The schemes of a split manifest that trials go by, by their names."""
        if self.validation != FOLDS:
            return (self.validation,)
        return tuple(map(kfold_name, sorted(map(int, self.values_of("folds", 3)))))

    def over(self, folds: int) -> Space:
        """This space with that number of folds, which its validation has."""
        return replace(self, hparams=(*self.hparams, Hyperparameter("folds", "fixed", (folds,))))

    def largest_nets(self) -> dict[str, dict[str, Any]]:
        """For each architecture and the benchmark, the largest values of the hyperparameters it reads."""
        names = {"benchmark", *map(str, self.values_of("architecture", DEFAULTS["architecture"]))}
        return {
            name: {
                hyperparameter.name: hyperparameter.largest()
                for hyperparameter in self.hparams
                if hyperparameter.name in net_hparams(name) and hyperparameter.beside(name)
            }
            for name in sorted(names)
        }


def describe(space: Space) -> dict[str, Any]:
    """`space` as plain JSON values."""
    return asdict(space)


def space_from(stored: Mapping[str, Any]) -> Space:
    """The space that `describe` gave."""
    hparams = tuple(
        Hyperparameter(
            one["name"],
            one["kind"],
            tuple(one["values"]),
            tuple((name, tuple(values)) for name, values in one["when"]),
        )
        for one in stored["hparams"]
    )
    rest = {key: value for key, value in stored.items() if key != "hparams"}
    resources = dict(stored["resources"])
    resources["prices"] = _pairs(resources["prices"])
    sampling = stored["sampling"]
    rest["stopping"] = Stopping(**stored["stopping"])
    rest["resources"] = Resources(**resources)
    rest["sampling"] = Sampling(sampling["name"], _pairs(sampling["options"]))
    rest["budget"] = Budget(**stored["budget"])
    rest["points"] = tuple(map(_pairs, stored["points"]))
    rest["ceilings"] = tuple(Ceiling(**one) for one in stored["ceilings"])
    for name in ("auxiliary", "constraints", "warm_start"):
        rest[name] = tuple(stored[name])
    return Space(hparams=hparams, **rest)


def _pairs(stored: Sequence[Sequence[Any]]) -> tuple[tuple[str, Any], ...]:
    return tuple((name, value) for name, value in stored)
