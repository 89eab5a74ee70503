"""What a study knows of the topics of a model card, and what it cannot know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version

from raysearch.config.hyperparameters import resolve
from raysearch.reports.study_report import Report, Set, fresh_text
from raysearch.reports.tables import hparams_text
from raysearch.testing.test_results import HELD_OUT

PACKAGES = ("raysearch", "torch", "torchvision", "ray", "optuna", "mlflow")


@dataclass(frozen=True)
class Answer:
    """What is `known` of a topic, and what is still `open`: only a person can say it."""

    known: str = ""
    open: str = ""


def answers(report: Report) -> dict[str, Answer]:
    """An answer to every topic that the study knows something of."""
    told = dict[str, Answer]()
    for part in (_idea, _data, _partitions, _model, _training, _judging, _results, _use):
        told.update(part(report))
    return told


def _idea(report: Report) -> Iterator[tuple[str, Answer]]:
    plan, history = report.plan, report.history
    architecture = _hparam(report, "architecture")
    yield (
        "technology",
        Answer(f"Deep learning: {architecture}, which gives a patch of histology its class."),
    )
    yield (
        "summary",
        Answer(
            f"Of {len(history.searched()):,} trials, judged over {report.champion.folds} folds of"
            f" {report.selection.num_patients:,} patients, {report.champion.id} is the champion."
            f" {_figure(report.sets[0], plan.space.metric)} out of fold; corrected for having been"
            f" chosen {report.selection.corrected}."
        ),
    )
    yield (
        "aims",
        Answer(f"Sought: the {_best(report)} {plan.space.metric}.", "the clinical hypothesis"),
    )
    yield "design", Answer("Retrospective: patches and labels were there before the study.")
    yield "goal", Answer("To develop a model and to choose it; nothing is claimed of its use.")


def _data(report: Report) -> Iterator[tuple[str, Answer]]:
    plan, manifest = report.plan, report.manifest
    counts = ", ".join(
        f"{count:,} {name}" for name, count in zip(plan.class_names, plan.class_counts, strict=True)
    )
    kept = f" (format {manifest.format}, from {manifest.source})" if manifest else ""
    where = f"Shards at {plan.data}{kept}, fingerprint {plan.fingerprint[:12]}"
    more = "".join(f"; learned from, too: {one.data}" for one in plan.auxiliary)
    yield (
        "sources",
        Answer(where + more + ".", "who collected the slides, and whether they stand for the use"),
    )
    if manifest:
        text = (
            f"Of {manifest.files:,} files {manifest.rows:,} became patches and"
            f" {manifest.rejected:,} were rejected, each with its reason."
        )
        yield "eligibility", Answer(text, "which patients and slides were taken, and why")
        yield "missing", Answer(f"Nothing is imputed. {text}")
        fitted = ", ".join(f"{count:,} {what}" for what, count in manifest.resize_modes.items())
    else:
        fitted = ""
    made = f"; while being read, {fitted}" if fitted else ""
    normalised = f"Pixels from -1 to 1; before that `{_hparam(report, 'preprocess')}`{made}."
    yield "preprocessing", Answer(f"{normalised} It is fitted to what is learned from alone.")
    fraction = resolve(report.champion.hparams).patient_fraction
    part = (
        "" if fraction == 1 else f" Each fold's nets learned from {fraction:.0%} of its patients."
    )
    yield "subsets", Answer(f"Patches with a label of {plan.view.task!r}: {counts}.{part}")
    height, width, _channels = plan.shape
    yield (
        "acquisition",
        Answer(f"Patches of {height} x {width} pixels, RGB.", "staining, scanner, magnification"),
    )
    yield (
        "reference",
        Answer(
            f"The classes that the data set gives: {', '.join(plan.class_names)}.",
            "how they are told",
        ),
    )
    yield "predictors", Answer("The pixels of a patch, and nothing else; nobody assesses them.")
    yield "imbalance", Answer(f"{counts}; {_balance(report)}")


def _balance(report: Report) -> str:
    if resolve(report.champion.hparams).balanced_sampling:
        return "each class is drawn as often as another."
    weighed = resolve(report.champion.hparams).class_weights
    return "losses are weighed by class." if weighed else "nothing is done about it."


def _partitions(report: Report) -> Iterator[tuple[str, Answer]]:
    plan, champion = report.plan, report.champion
    split = next((one for one in plan.splits if one.folds == champion.folds), plan.splits[0])
    held_out = len(plan.view.held_out)
    aside = (
        f"{held_out:,} {plan.view.by}s were put aside for the test"
        if held_out
        else "none put aside"
    )
    yield (
        "partitions",
        Answer(
            f"{split.folds} folds by the split manifest {plan.space.split or plan.space.task!r}, written"
            f" down before the first trial (hash {split.hash[:12]}); {aside}."
        ),
    )
    by = plan.view.by
    level = f"By {by}: no {by} is learned from and judged in one fold"
    warned = "".join(f" {one}." for one in plan.warnings)
    yield "level", Answer(f"{level}; but the plan warns:{warned}" if warned else f"{level}.")
    judged = "; ".join(f"{one.name}: {_support(one)}" for one in report.sets)
    patches = f"{sum(plan.class_counts):,} patches to learn from and to judge by"
    yield "size", Answer(f"{patches}; judged, {judged}.", "why so many")
    yield "flow", Answer(f"{patches}; judged, {judged}.")
    groups = ", ".join(
        f"{one.name} {', '.join(f'{part.support:,} {part.name}' for part in one.found.classes)}"
        for one in report.sets
    )
    yield "demographics", Answer(f"Classes: {groups}.", "age, sex, stage, receptors, of each part")
    outside = [one for one in report.sets[1:] if one.name != HELD_OUT]
    yield (
        "difference",
        Answer(f"Classes: {groups}." if len(report.sets) > 1 else "", "how the patients differ")
        if outside
        else Answer("No set from elsewhere was judged."),
    )


def _model(report: Report) -> Iterator[tuple[str, Answer]]:
    plan, champion, decision = report.plan, report.champion, report.decision
    known_costs = champion.costs.by_name()
    height, width, channels = plan.shape
    costs = ", ".join(
        f"{known_costs[name]:,.0f} {name}"
        for name in ("parameters", "flops")
        if name in known_costs
    )
    names = ", ".join(plan.class_names)
    yield (
        "model",
        Answer(
            f"{_hparam(report, 'architecture')} ({costs}): uint8 patches {height} x {width} x"
            f" {channels} in, a calibrated probability of each of {names} out."
        ),
    )
    yield "software", Answer(", ".join(f"{one} {version(one)}" for one in PACKAGES) + ".")
    weights = resolve(champion.hparams).weights
    drawn = f"Drawn with the seed {champion.seed if decision.seed is None else decision.seed}."
    yield (
        "initial",
        Answer(drawn if weights == "none" else f"Weights of {weights}; the head drawn."),
    )
    mean = f"The mean of {champion.folds} nets, one a fold of a fresh seed."
    yield "ensemble", Answer(mean if decision.kind == "ensemble" else "None: one net of all patients.")
    yield (
        "output",
        Answer(
            f"Probabilities at the temperature {decision.temperature:.3f}; "
            + (
                "the likeliest class is decided on."
                if decision.threshold is None
                else f"{plan.class_names[1]} from {decision.threshold:.3f} on, which is best for"
                f" {decision.criterion} out of fold."
            )
        ),
    )
    yield (
        "specification",
        Answer("Weights and recipe are one file, `raysearch.pt`, in the registry."),
    )
    yield "prediction", Answer("`raysearch predict`: the registered model, patch by patch.")
    yield "explained", Answer("Grad-CAM at the last layer with places (Selvaraju et al., 2017).")


def _training(report: Report) -> Iterator[tuple[str, Answer]]:
    plan, selection = report.plan, report.selection
    hparams = hparams_text(report.champion.hparams)
    yield "training", Answer(f"{plan.space.epochs} epochs a fold; {hparams}; the rest is default.")
    yield (
        "selection",
        Answer(
            f"{plan.space.sampler.name} proposed, {plan.space.stopping.rule} stopped early;"
            f" {len(selection.tied)} of {len(selection.candidates)} are not worse than the best by"
            f" {selection.margin:g} in {plan.space.metric}, pooled out of fold (paired by patient,"
            f" Holm), and the fastest of them is chosen"
            + ("." if report.champion is selection.chosen else "; the next best where it fails.")
        ),
    )


def _judging(report: Report) -> Iterator[tuple[str, Answer]]:
    names = ", ".join(report.sets[0].found.metrics)
    of_two = ", triage; by patient, too" if report.sets[0].found.patient_level else ""
    yield "metrics", Answer(f"{names}; by class and fold; calibration error, AUGRC{of_two}.")
    yield (
        "uncertainty",
        Answer("95 % intervals by the percentiles of 2,000 draws of patients; exact for triage."),
    )
    fresh = fresh_text(report)
    told = f"With fresh seeds {fresh}. " if fresh else ""
    yield "robustness", Answer(f"{told}Each fold alone is told.", "other scanners and stainings")
    yield "heterogeneity", Answer(f"Each fold is told: {_folds(report)}.", "centres")
    yield (
        "updating",
        Answer("None: temperature and threshold are of the out-of-fold scores, and locked."),
    )


def _folds(report: Report) -> str:
    metric = report.plan.space.metric
    values = [one.get(metric) for one in report.sets[0].found.folds.values()]
    known = [one for one in values if one is not None]
    return f"{metric} {min(known):.4f} to {max(known):.4f} by fold" if known else "by fold"


def _results(report: Report) -> Iterator[tuple[str, Answer]]:
    metric = report.plan.space.metric
    sets = {one.name: one for one in report.sets}
    held_out = sets.get(HELD_OUT)
    own = f"Out of fold: {_figure(report.sets[0], metric)}."
    if held_out is not None:
        yield "internal", Answer(f"{own} Sealed: {_figure(held_out, metric)}. {held_out.text}")
    elif report.plan.view.held_out:
        yield (
            "internal",
            Answer(f"{own} The held-out set is unopened.", "`raysearch test` opens it"),
        )
    else:
        yield "internal", Answer(own, "a set that chose nothing: none was put aside")
    outside = [one for one in report.sets[1:] if one.name != HELD_OUT]
    text = " ".join(f"{one.name}: {_figure(one, metric)}." for one in outside)
    yield "external", Answer(text, "" if outside else "`raysearch evaluate` judges such a set")
    yield "performance", Answer("; ".join(f"{one.name}: {_main(one)}" for one in report.sets) + ".")
    yield (
        "diagnostic",
        Answer("; ".join(f"{one.name}: {_decided(one)}" for one in report.sets) + "."),
    )
    yield "subgroups", Answer("", "performance by age, sex, stage, centre")
    wrong = int((report.sets[0].scored.predicted != report.sets[0].scored.labels).sum())
    yield (
        "failures",
        Answer(f"{wrong:,} errors out of fold; the surest are shown, if patches are.", "why"),
    )
    notes = " ".join(f"{one.name}: {note.text}." for one in report.sets for note in one.notes)
    yield (
        "limits",
        Answer(
            f"The patients out of fold chose the model, so that their figures flatter it. {notes}",
            "what the data cannot show",
        ),
    )


def _use(report: Report) -> Iterator[tuple[str, Answer]]:
    plan = report.plan
    yield (
        "protocol",
        Answer(
            f"The study's plan, splits and journal ({plan.identity})"
            + (f", code at {plan.git_commit[:12]}" if plan.git_commit else "")
            + ".",
            "where a protocol was laid down",
        ),
    )
    yield (
        "availability",
        Answer(f"models:/{plan.name}@champion in MLflow.", "licence, and for whom"),
    )
    yield (
        "input_quality",
        Answer("Files that cannot be read, or are of another size, are rejected and listed."),
    )
    yield "users", Answer("", "what a user has to know and to do")


def _hparam(report: Report, name: str) -> str:
    return str(getattr(resolve(report.champion.hparams), name))


def _best(report: Report) -> str:
    return "highest" if report.plan.space.mode == "max" else "lowest"


def _support(one: Set) -> str:
    return f"{one.found.rows:,} patches of {one.found.patients:,} patients"


def _figure(one: Set, metric: str) -> str:
    return f"{metric} {one.found.metrics[metric]}"


def _main(one: Set) -> str:
    found: Mapping[str, object] = one.found.metrics
    names = ("auroc", "average_precision", "balanced_accuracy", "f1", "macro_f1", "brier")
    return ", ".join(f"{name} {found[name]}" for name in names if name in found)


def _decided(one: Set) -> str:
    """Sensitivity and specificity as decided: of the second of two classes, or of each."""
    classes = one.found.classes[1:] if len(one.found.classes) == 2 else one.found.classes
    return ", ".join(
        f"{part.name}: sensitivity {part.recall}, specificity {part.specificity}"
        for part in classes
    )
