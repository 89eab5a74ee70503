"""A search space in memory: hyperparameters, objective, sampler, stopping and limits of a study.

The classes are frozen and hashable. Their annotations carry the bounds that a space file is
validated with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from raysearch.config.bounded_types import (
    Count,
    CountOrZero,
    Dollars,
    Hours,
    Probability,
    ReductionFactor,
    Target,
)
from raysearch.config.custom_components import CustomComponent, table_with
from raysearch.config.hyperparameter_readers import LORA_HPARAMS, network_hparams
from raysearch.config.hyperparameter_spec import HyperparameterSpec, Value, is_import_path
from raysearch.config.names import FOLDS, FULL, LABEL, NO_MEMORY, NO_WEIGHTS, kfold_name
from raysearch.config.samplers import DEFAULT_SAMPLER, Sampler

Kind = Literal["fixed", "choice", "uniform", "loguniform", "int", "logint"]
RANGES = ("uniform", "loguniform", "int", "logint")
Rule = Literal["forest", "promotion", "asha", "none"]
# What becomes the champion: one network trained on all patients, or those of a repeat's folds.
ChampionKind = Literal["refit", "ensemble"]
# Other hyperparameters by name, and the values that they must have: all of them.
Conditions = tuple[tuple[str, tuple[Value, ...]], ...]
# A configuration to evaluate, or a part of one, in the order of the space's hyperparameters.
Point = tuple[tuple[str, Value], ...]


@dataclass(frozen=True)
class Hyperparameter:
    """A hyperparameter of a space: its values, and the conditions under which it exists.

    `values` are the choices, or (low, high) with both ends included.
    """

    name: str
    kind: Kind
    values: tuple[Value, ...]
    when: Conditions = ()

    def is_active(self, chosen: Mapping[str, Value]) -> bool:
        """Return whether this hyperparameter exists beside the values `chosen` before it."""
        return all(chosen.get(name) in values for name, values in self.when)

    def contains(self, value: object) -> bool:
        """Return whether `value` is one of the choices, or within the range."""
        if self.kind not in RANGES:
            return value in self.values
        low, high = self.values
        return isinstance(value, (int, float)) and float(low) <= value <= float(high)

    def all_values(self) -> tuple[Value, ...]:
        """Return every value; of a range of floats, its two ends."""
        if self.kind in ("int", "logint"):
            return tuple(range(int(self.values[0]), int(self.values[1]) + 1))
        return self.values

    def largest(self) -> Value:
        """Return the largest of its values if these are numbers, otherwise the last.

        Training all layers of a network needs the most memory.
        """
        if FULL in self.values and self.name == "adaptation":
            return FULL
        numbers = [value for value in self.values if isinstance(value, (int, float))]
        return max(numbers) if len(numbers) == len(self.values) else self.values[-1]

    def can_exist_with(self, architecture: str) -> bool:
        """Return whether its conditions allow this architecture."""
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
    """The CPU cores and the GPUs of one trial, each possibly a fraction of one.

    `prices` are dollars per hour of a machine, by node type.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    prices: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Stopping:
    """The rules by which trials end early, or pause while better ones train.

    Attributes:
        grace_period: Epochs before the first rung.
        reduction_factor: A rung promotes the best 1/`reduction_factor` of its trials.
        rule: `forest` (a model of the learning curves picks what trains next), `promotion` (a
            trial waits at a rung until it is among the best), `asha` (it stops unless it is) or
            `none`.
        patience: Epochs of a fold without improvement that end a trial; 0 for no limit. The last
            trial that can still finish is exempt if none has finished.
        paired_alpha: A trial ends if a paired test over folds finds it worse than the best with a
            p-value below this; 0 for no test.
    """

    grace_period: Count
    reduction_factor: ReductionFactor = 3
    rule: Rule = "forest"
    patience: CountOrZero = 0
    paired_alpha: Probability = 0.0


@dataclass(frozen=True)
class Budget:
    """The limits of a whole study; None for no limit. The first limit that is reached ends it.

    Attributes:
        hours: Hours of wall-clock time.
        gpu_hours: Hours of the GPUs that trials held.
        dollars: Costs of the machines by `Resources.prices`.
        fold_epochs: Epochs of a fold, over all trials.
        no_improvement: Finished trials since the last better one.
        target: A value of the objective that is good enough.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    hours: Hours | None = None
    gpu_hours: Hours | None = None
    dollars: Dollars | None = None
    fold_epochs: Count | None = None
    no_improvement: Count | None = None
    target: Target | None = None


@dataclass(frozen=True)
class NetworkLimits:
    """Upper limits of a trial's network; None for no limit. Trials above one are rejected.

    Attributes:
        parameters: Number of trained parameters.
        inference_ms: Milliseconds per patch, or per slide, in batches.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    parameters: Annotated[float, Field(strict=True, ge=1, le=1e12)] | None = None
    inference_ms: Annotated[float, Field(strict=True, ge=1e-6, le=1e6)] | None = None

    def by_metric(self) -> dict[str, float]:
        """Return the limits that are set, by the name of what they limit."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Prior:
    """What the user expects of the best value of a hyperparameter.

    Attributes:
        name: The hyperparameter.
        around: The expected number; None if there are `weights`.
        factor: The best number is expected from `around` / factor to `around` * factor, with the
            probability of one standard deviation.
        deviation: The standard deviation from `around`, in place of a factor.
        weights: Relative probabilities of values of a choice; the others have 1.
    """

    name: str
    around: float | None = None
    factor: float | None = None
    deviation: float | None = None
    weights: tuple[tuple[Value, float], ...] = ()

    def __str__(self) -> str:
        if self.around is None:
            return ", ".join(f"{value} {weight:g}" for value, weight in self.weights)
        if self.factor is not None:
            return f"around {self.around:g}, factor {self.factor:g}"
        return f"around {self.around:g}, deviation {self.deviation:g}"


@dataclass(frozen=True)
class Space:
    """A validated search space; each hyperparameter comes after those that its conditions name.

    `epochs` are those of a fold, the largest number if it is a hyperparameter. `repeats` are the
    repeated cross-validations of the champion, with new seeds. By `with_encoder`,
    its model has a copy of a frozen encoder also if the license of the weights is unknown.
    `memory` is `none`, `studies`, or the folder of the earlier studies that the search learns from;
    `prior` is what the user expects.
    `components` are those of the user's own, and `metrics` the import paths of further metrics.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(defer_build=True)
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
    sampler: Sampler = DEFAULT_SAMPLER
    budget: Budget = Budget()
    points_to_evaluate: tuple[Point, ...] = ()
    constraints: tuple[str, ...] = ()
    limits: NetworkLimits = NetworkLimits()
    warm_start: tuple[str, ...] = ()
    memory: str = NO_MEMORY
    prior: tuple[Prior, ...] = ()
    repeats: int = 1
    champion: ChampionKind = "refit"
    with_encoder: bool = False
    components: tuple[CustomComponent, ...] = ()
    metrics: tuple[str, ...] = ()

    @property
    def custom_metrics(self) -> tuple[str, ...]:
        """The import paths of the metrics of the user's: the objective, and further ones."""
        return tuple(dict.fromkeys((*self.custom_objective, *self.metrics)))

    @property
    def custom_objective(self) -> tuple[str, ...]:
        """The import path of the objective if it is a metric of the user's; empty otherwise."""
        return (self.metric,) if is_import_path(self.metric) else ()

    @property
    def table(self) -> Mapping[str, HyperparameterSpec]:
        """The table of hyperparameters, with those of the components of the user's."""
        return table_with(self.components)

    @property
    def epoch_values(self) -> tuple[int, ...]:
        """The numbers of epochs of a fold that trials may have; `epochs` is the largest."""
        hparam = self.hyperparameter("epochs")
        return (self.epochs,) if hparam is None else tuple(map(int, hparam.all_values()))

    def settings(self) -> dict[str, str]:
        """Return every setting as text by its dotted name, to compare two spaces."""
        rows = {
            f"space.{hparam.name}": str(hparam)
            if hparam.kind in RANGES
            else f"{hparam.kind} {hparam}"
            for hparam in self.hparams
        }
        for name in ("metric", "mode", "epochs", "trials", "seed", "data", "task", "split"):
            rows[name] = str(getattr(self, name))
        for name in ("validation", "repeats", "champion", "with_encoder", "memory"):
            rows[name] = str(getattr(self, name))
        rows |= {f"stopping.{name}": str(value) for name, value in asdict(self.stopping).items()}
        rows |= {
            f"resources.{name}": str(getattr(self.resources, name)) for name in ("cpus", "gpus")
        }
        prices = self.resources.prices
        rows |= {f"resources.prices.{name}": f"{price:.15g}" for name, price in prices}
        rows |= {f"sampler.{name}": str(value) for name, value in asdict(self.sampler).items()}
        for section, limits in (("budget", asdict(self.budget)), ("limits", asdict(self.limits))):
            rows |= {
                f"{section}.{name}": f"{value:.15g}"
                for name, value in limits.items()
                if value is not None
            }
        for number, point in enumerate(self.points_to_evaluate, 1):
            rows[f"points_to_evaluate.{number}"] = " ".join(
                f"{name}={value}" for name, value in point
            )
        rows |= {f"constraints.{number}": text for number, text in enumerate(self.constraints, 1)}
        for name in ("auxiliary", "warm_start", "metrics"):
            rows[name] = ", ".join(getattr(self, name)) or "none"
        rows |= {f"prior.{prior.name}": str(prior) for prior in self.prior}
        rows |= {f"components.{each.name}": str(each) for each in self.components}
        return rows

    def hyperparameter(self, name: str) -> Hyperparameter | None:
        """Return the hyperparameter `name` if the space has it."""
        return next((hparam for hparam in self.hparams if hparam.name == name), None)

    def values_of(self, name: str) -> tuple[Value, ...]:
        """Return the values that the choice or fixed hyperparameter `name` may take.

        Without it, the value is the default of the table, if there is one.
        """
        hparam = self.hyperparameter(name)
        if hparam is not None:
            return hparam.all_values()
        default = self.table[name].default if name in self.table else None
        return () if default is None else (default,)

    def weights_of(self, architecture: str) -> tuple[Value, ...]:
        """Return the values of the hyperparameter `weights` that may exist with `architecture`."""
        hparam = self.hyperparameter("weights")
        default = self.table["weights"].default_for({"architecture": architecture})
        defaults = () if default in (None, NO_WEIGHTS) else (default,)
        if hparam is None or not hparam.can_exist_with(architecture):
            return defaults
        if any(other != "architecture" for other, _values in hparam.when):
            return tuple(dict.fromkeys([*hparam.all_values(), *defaults]))
        return hparam.all_values()

    def searched_hparams(self) -> list[Hyperparameter]:
        """Return the hyperparameters that vary, except `folds`, whose values are not compared."""
        return [
            hparam
            for hparam in self.hparams
            if len(set(hparam.values)) > 1 and hparam.name != "folds"
        ]

    def active_values(self, value_of: Callable[[Hyperparameter], Value | None]) -> dict[str, Value]:
        """Return `value_of` each hyperparameter that exists beside the values before it.

        A hyperparameter for which `value_of` gives None is left out.
        """
        values: dict[str, Value] = {}
        for hparam in self.hparams:
            if hparam.is_active(values):
                value = value_of(hparam)
                if value is not None:
                    values[hparam.name] = value
        return values

    def schemes(self) -> tuple[str, ...]:
        """Return the names of the split schemes that trials use."""
        if self.validation != FOLDS:
            return (self.validation,)
        return tuple(map(kfold_name, sorted(map(int, self.values_of("folds")))))

    def with_folds(self, folds: int) -> Space:
        """Return this space with the number of folds that its validation scheme has."""
        return replace(self, hparams=(*self.hparams, Hyperparameter("folds", "fixed", (folds,))))

    def largest_networks(self) -> dict[str, dict[str, Value]]:
        """Return the largest values of what defines a network and its adapters, by architecture.

        The baseline network `benchmark` is among the architectures.
        """
        return {
            name: {
                hparam.name: hparam.largest()
                for hparam in self.hparams
                if hparam.name in network_hparams(name, self.table) | LORA_HPARAMS
                and hparam.can_exist_with(name)
            }
            for name in sorted({"benchmark", *map(str, self.values_of("architecture"))})
        }
