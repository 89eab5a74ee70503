"""Answers the topics of a model card from the records of a study."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

from raysearch.config.hyperparameters import resolve
from raysearch.config.names import NO_WEIGHTS
from raysearch.config.report_interval import trial_epochs
from raysearch.data.pseudonyms import DisplayedNames, last_part
from raysearch.metrics.evaluation import NUM_REPLICATES
from raysearch.metrics.row_units import singular
from raysearch.models import is_bag_shape
from raysearch.reports.evaluation_tables import hparams_summary
from raysearch.reports.pretrained_weights_text import (
    architecture_name,
    pretrained_text,
    separate_text,
)
from raysearch.reports.study_report import EvaluatedSet, StudyReport, repeats_text

PACKAGES = ("raysearch", "torch", "torchvision", "ray", "optuna", "mlflow")
MAIN_METRICS = ("auroc", "average_precision", "balanced_accuracy", "f1", "macro_f1", "brier")


@dataclass(frozen=True)
class Answer:
    """The answer to a topic, and what is missing from it, because no study records it."""

    text: str = ""
    missing: str = ""


Answers = dict[str, Answer]


def study_answers(report: StudyReport, names: DisplayedNames) -> Answers:
    """Return an answer to each topic that the study has records of, with displayed `names`."""
    return {
        **_design_answers(report),
        **_data_answers(report),
        **_partition_answers(report, names),
        **_model_answers(report),
        **_training_answers(report),
        **_method_answers(report),
        **_result_answers(report, names),
        **_use_answers(report),
    }


def _design_answers(report: StudyReport) -> Answers:
    plan, metric, selection = report.plan, report.plan.space.metric, report.selection
    direction = "Maximize" if report.plan.space.mode == "max" else "Minimize"
    summary = (
        f"Trials: {len(report.history.searched()):,}, evaluated by cross-validation on"
        f" {selection.num_patients:,} patients, {report.champion.folds} folds grouped by"
        f" {report.plan.view.by}."
        f" Champion: {report.champion.id}, out-of-fold"
        f" {_metric_text(report.out_of_fold, metric)}. Bias-corrected estimate of the best trial"
        f" (BBC-CV): {selection.corrected}."
    )
    architecture = architecture_name(report)
    return {
        "technology": Answer(
            f"Deep learning ({architecture}): classification of histology {plan.unit}."
        ),
        "summary": Answer(summary),
        "aims": Answer(
            f"{direction} {metric} of the classification of {plan.unit}.", "clinical hypotheses"
        ),
        "design": Answer(f"Retrospective: {plan.unit} and labels existed before the study."),
        "goal": Answer("Model development and selection. Clinical use is not evaluated."),
    }


def _data_answers(report: StudyReport) -> Answers:
    plan, manifest = report.plan, report.manifest
    hparams = resolve(report.champion.hparams)
    source = f" (format {manifest.format})" if manifest else ""
    auxiliary = "".join(
        f" Auxiliary training data: {last_part(data.data)}, fingerprint {data.fingerprint[:12]}."
        for data in plan.auxiliary
    )
    sources = (
        f"Shards {last_part(plan.data)}{source}, fingerprint {plan.fingerprint[:12]}.{auxiliary}"
    )
    names = ", ".join(plan.class_names)
    counts = _class_counts(report)
    subsets = f"{plan.unit.capitalize()} with a label of task {plan.view.task!r}: {counts}."
    if hparams.patient_fraction != 1:
        subsets += f" Each fold trains on {hparams.patient_fraction:.0%} of its training patients."
    preprocessing = f"Preprocessing `{hparams.preprocess}`, then pixels scaled to -1 to 1."
    is_of_slides = is_bag_shape(plan.shape)
    if is_of_slides:
        preprocessing = "Features of the patches of each slide, standardized for each patch."
    elif manifest and manifest.resize_modes:
        modes = ", ".join(f"{rows:,} {mode}" for mode, rows in manifest.resize_modes.items())
        preprocessing += f" Resize modes of the source images: {modes}."
    if not is_of_slides:
        preprocessing += " Preprocessing parameters are fitted on training patches only."
    height, width, _channels = plan.shape
    acquired = f"RGB patches of {height} x {width} pixels."
    predictors = "The pixels of a patch only; no human assessment."
    if is_of_slides:
        acquired = f"{width:,} features of each patch; a slide has {height:,} patches (median)."
        predictors = "The features of the patches of a slide only; no human assessment."
    answers = {
        "sources": Answer(sources, "who collected the slides, and how representative they are"),
        "preprocessing": Answer(preprocessing),
        "subsets": Answer(subsets),
        "acquisition": Answer(acquired, "staining, scanner, magnification"),
        "reference_standard": Answer(
            f"Class labels of the data set: {names}.", "how the classes are defined"
        ),
        "predictors": Answer(predictors),
        "imbalance": Answer(f"{counts}. {_imbalance_text(report)}"),
    }
    if manifest:
        files = (
            f"Of {manifest.files:,} source files, {manifest.rows:,} became {plan.unit} and"
            f" {manifest.rejected:,} were rejected, each with a recorded reason."
        )
        answers["eligibility"] = Answer(files, "inclusion criteria of patients and slides")
        answers["missing_data"] = Answer(f"No imputation. {files}")
    return answers


def _class_counts(report: StudyReport) -> str:
    plan = report.plan
    counts = zip(plan.class_names, plan.class_counts, strict=True)
    return ", ".join(f"{count:,} {name}" for name, count in counts)


def _imbalance_text(report: StudyReport) -> str:
    hparams = resolve(report.champion.hparams)
    if hparams.balanced_sampling:
        return "Class-balanced sampling."
    return "Class-weighted loss." if hparams.class_weights else "No correction."


def _partition_answers(report: StudyReport, names: DisplayedNames) -> Answers:
    plan, champion = report.plan, report.champion
    splits = [split for split in plan.splits if split.folds == champion.folds]
    split = splits[0] if splits else plan.splits[0]
    by, num_held_out = plan.view.by, len(plan.view.held_out)
    held_out = f"Held-out test set: {num_held_out:,} {by}s." if num_held_out else "No held-out set."
    partitions = (
        f"{split.folds} folds of the split manifest {plan.space.split or plan.space.task!r}, fixed"
        f" before the first trial (hash {split.hash[:12]}). {held_out}"
    )
    warnings = " ".join(f"{names.message(warning)}." for warning in plan.warnings)
    level = f"Partitions are disjoint by {by}."
    flow = f"Development set: {sum(plan.class_counts):,} {plan.unit}. Evaluated: " + "; ".join(
        f"{evaluated.name}, {evaluated.support}" for evaluated in report.sets
    )
    classes = "Classes: " + "; ".join(
        f"{evaluated.name}, {_supports(evaluated)}" for evaluated in report.sets
    )
    difference = Answer("No external test set was evaluated.")
    if report.external:
        difference = Answer(f"{classes}.", "differences between the patients")
    return {
        "partitions": Answer(partitions),
        "partition_level": Answer(f"{level} Warnings: {warnings}" if warnings else level),
        "sample_size": Answer(f"{flow}.", "justification of the sample size"),
        "participant_flow": Answer(f"{flow}."),
        "demographics": Answer(
            f"{classes}.", "age, sex, stage and receptor status in each partition"
        ),
        "difference": difference,
    }


def _supports(evaluated: EvaluatedSet) -> str:
    return ", ".join(f"{report.support:,} {report.name}" for report in evaluated.evaluation.classes)


def _model_answers(report: StudyReport) -> Answers:
    plan, champion, decision = report.plan, report.champion, report.decision
    hparams, costs = resolve(champion.hparams), champion.costs.by_name()
    sizes = [f"{costs[name]:,.0f} {name}" for name in ("parameters", "flops") if name in costs]
    height, width, channels = plan.shape
    inputs = f"uint8 patches of {height} x {width} x {channels}"
    if is_bag_shape(plan.shape):
        inputs = f"{width:,} features of each patch of a slide"
    model = (
        f"{architecture_name(report)} ({', '.join(sizes)}). Input: {inputs}. Output: calibrated"
        f" probabilities of {', '.join(plan.class_names)}."
    )
    seed = champion.seed if decision.seed is None else decision.seed
    initialization = f"Random, seed {seed}."
    if hparams.weights != NO_WEIGHTS:
        initialization = f"{pretrained_text(report)} Random initialization of the head."
    ensemble = "None: one network, trained on all development patients."
    if decision.kind == "ensemble":
        ensemble = f"Mean of {champion.folds} networks, one for each fold of a repeat."
    rule = "The class of highest probability is predicted."
    if decision.threshold is not None:
        rule = (
            f"Class {plan.class_names[1]} is predicted from a probability of"
            f" {decision.threshold:.3f}, which maximizes the out-of-fold {decision.criterion}."
        )
    return {
        "model": Answer(model),
        "software": Answer(", ".join(f"{name} {version(name)}" for name in PACKAGES) + "."),
        "initialization": Answer(initialization),
        "ensemble": Answer(ensemble),
        "output": Answer(
            f"Class probabilities, calibrated at temperature {decision.temperature:.3f}. {rule}"
        ),
        "specification": Answer(
            "Weights and settings are one file, `raysearch.pt`, in the model registry."
            f"{separate_text(report)}"
        ),
        "prediction": Answer(
            f"`raysearch predict` applies the registered model to each {singular(plan.unit)}."
        ),
        "explainability": Answer(
            "The attention to the patches of a slide."
            if is_bag_shape(plan.shape)
            else "Grad-CAM (Selvaraju et al., 2017) at the last layer with spatial dimensions."
        ),
    }


def _training_answers(report: StudyReport) -> Answers:
    space, selection = report.plan.space, report.selection
    hparams = report.champion.hparams
    training = (
        f"{trial_epochs(space, hparams)} epochs a fold; {hparams_summary(hparams)}; defaults for"
        " all other hyperparameters."
    )
    selected = (
        f"Sampler {space.sampler.name}, early stopping {space.stopping.rule}."
        f" {len(selection.tied)} of {len(selection.candidates)} finished trials are tied with the"
        f" best: non-inferior by a margin of {selection.margin:g} in out-of-fold {space.metric}"
        " (paired bootstrap by patient, Holm correction). The tied trial with the lowest inference"
        " time is selected."
    )
    if report.champion is not selection.chosen:
        selected += " Its final training failed; the champion is the next trial in this order."
    return {"training": Answer(training), "selection": Answer(selected)}


def _method_answers(report: StudyReport) -> Answers:
    evaluation = report.out_of_fold.evaluation
    metrics = f"{', '.join(evaluation.metrics)}; by class and fold; calibration error; AUGRC"
    if evaluation.patient_level:
        row = singular(evaluation.unit)
        metrics += f"; rule-out by {row} and patient; patient-level AUROC and detection"
    uncertainty = (
        f"95 % confidence intervals: percentiles of {NUM_REPLICATES:,} bootstrap replicates of"
        " patients; exact (Clopper and Pearson) intervals of rule-out and detection."
    )
    repeats = repeats_text(report)
    repeated = f"Repeats with new seeds: {repeats}. " if repeats else ""
    return {
        "metrics": Answer(f"{metrics}."),
        "uncertainty": Answer(uncertainty),
        "robustness": Answer(
            f"{repeated}Results of each fold are reported.", "other scanners and stainings"
        ),
        "heterogeneity": Answer(f"By fold: {_fold_range(report)}.", "results by center"),
        "updating": Answer(
            "None. Temperature and threshold are fitted to the out-of-fold scores and then fixed."
        ),
    }


def _fold_range(report: StudyReport) -> str:
    metric = report.plan.space.metric
    metrics_by_fold = report.out_of_fold.evaluation.folds.values()
    values = [value for metrics in metrics_by_fold if (value := metrics.get(metric)) is not None]
    return f"{metric} {min(values):.4f} to {max(values):.4f}" if values else f"{metric} undefined"


def _result_answers(report: StudyReport, names: DisplayedNames) -> Answers:
    metric, scored = report.plan.space.metric, report.out_of_fold.scored
    external = " ".join(f"{test.name}: {_metric_text(test, metric)}." for test in report.external)
    performance = "; ".join(f"{test.name}: {_main_metrics(test)}" for test in report.sets)
    diagnostic = "; ".join(f"{test.name}: {_diagnostic_metrics(test)}" for test in report.sets)
    num_errors = int((scored.predicted != scored.labels).sum())
    notes = " ".join(
        f"{test.name}: {names.message(note.text)}." for test in report.sets for note in test.notes
    )
    limitations = (
        "The out-of-fold results are optimistic, because the model was selected on the same"
        f" patients. {notes}"
    )
    return {
        "internal": _internal_answer(report),
        "external": Answer(
            external, "" if external else "`raysearch evaluate` evaluates an external test set"
        ),
        "performance": Answer(f"{performance}."),
        "diagnostic": Answer(f"{diagnostic}."),
        "subgroups": Answer(missing="performance by age, sex, stage and center"),
        "failures": Answer(
            f"{num_errors:,} out-of-fold errors; the report shows those with the highest"
            " confidence.",
            "causes of the errors",
        ),
        "limitations": Answer(limitations.strip(), "limitations of the data"),
    }


def _internal_answer(report: StudyReport) -> Answer:
    metric = report.plan.space.metric
    out_of_fold = f"Out of fold: {_metric_text(report.out_of_fold, metric)}."
    if report.held_out is not None:
        held_out = f"Held-out test set: {_metric_text(report.held_out, metric)}."
        return Answer(f"{out_of_fold} {held_out} {report.held_out.text}")
    if report.plan.view.held_out:
        text = f"{out_of_fold} The held-out test set is not evaluated yet."
        return Answer(text, "`raysearch test` evaluates it")
    return Answer(out_of_fold, "a test set that was not used for selection; none was held out")


def _use_answers(report: StudyReport) -> Answers:
    plan = report.plan
    commit = f", code at commit {plan.git_commit[:12]}" if plan.git_commit else ""
    protocol = f"Plan, splits and journal of the study {plan.identity}{commit}."
    return {
        "protocol": Answer(protocol, "where a protocol is registered"),
        "availability": Answer(f"models:/{plan.name}@champion in MLflow.", "license and access"),
        "input_quality": Answer("Unreadable files and other image sizes are rejected and listed."),
        "user_requirements": Answer(missing="required expertise and interaction of users"),
    }


def _metric_text(evaluated: EvaluatedSet, metric: str) -> str:
    interval = evaluated.evaluation.metrics.get(metric)
    return f"{metric} {'not computed' if interval is None else interval}"


def _main_metrics(evaluated: EvaluatedSet) -> str:
    metrics = evaluated.evaluation.metrics
    return ", ".join(f"{name} {metrics[name]}" for name in MAIN_METRICS if name in metrics)


def _diagnostic_metrics(evaluated: EvaluatedSet) -> str:
    """Return sensitivity and specificity of the second of two classes, or of each class."""
    reports = evaluated.evaluation.classes
    return ", ".join(
        f"{report.name}: sensitivity {report.recall}, specificity {report.specificity}"
        for report in (reports[1:] if len(reports) == 2 else reports)
    )
