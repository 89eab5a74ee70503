"""The items of the reporting guidelines CLAIM and TRIPOD+AI, with the topics that answer them.

CLAIM, 2024 update: Tejani et al., Radiology: Artificial Intelligence 2024, 6(4):e240300.
TRIPOD+AI: Collins et al., BMJ 2024, 385:e078378. The items are abbreviated; the published texts are
authoritative.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """An item of a checklist: its number, what it requires, and the topics that answer it."""

    number: str
    requirement: str
    topics: tuple[str, ...]


@dataclass(frozen=True)
class Checklist:
    """The items of a reporting guideline."""

    name: str
    items: tuple[Item, ...]


def _items(*rows: tuple[str, str, str]) -> tuple[Item, ...]:
    """Return items from their number, requirement, and topics separated by spaces."""
    return tuple(
        Item(number, requirement, tuple(topics.split())) for number, requirement, topics in rows
    )


CLAIM = Checklist(
    "CLAIM 2024",
    _items(
        ("1", "Title: category of technology", "technology"),
        ("2", "Abstract: design, methods, results, conclusions", "summary conclusions"),
        ("3", "Background, intended use and role", "background intended_use"),
        ("4", "Aims, objectives and hypotheses", "aims"),
        ("5", "Prospective or retrospective study", "design"),
        ("6", "Study goal", "goal"),
        ("7", "Data sources", "sources"),
        ("8", "Inclusion and exclusion criteria", "eligibility"),
        ("9", "Data preprocessing", "preprocessing"),
        ("10", "Selection of data subsets", "subsets"),
        ("11", "De-identification methods", "deidentification"),
        ("12", "Missing data", "missing_data"),
        ("13", "Image acquisition protocol", "acquisition"),
        ("14", "Definition of the reference standard", "reference_standard"),
        ("15", "Rationale for the reference standard", "reference_rationale"),
        ("16", "Source of the annotations", "annotators"),
        ("17", "Annotation of the test set", "test_annotation"),
        ("18", "Inter- and intrarater variability", "variability"),
        ("19", "Assignment of data to partitions", "partitions"),
        ("20", "Level at which partitions are disjoint", "partition_level"),
        ("21", "Intended sample size", "sample_size"),
        ("22", "Detailed description of the model", "model"),
        ("23", "Software libraries", "software"),
        ("24", "Initialization of the parameters", "initialization"),
        ("25", "Details of the training", "training"),
        ("26", "Selection of the final model", "selection"),
        ("27", "Ensembling", "ensemble"),
        ("28", "Performance metrics", "metrics"),
        ("29", "Statistical significance and uncertainty", "uncertainty"),
        ("30", "Robustness or sensitivity analysis", "robustness"),
        ("31", "Explainability or interpretability", "explainability"),
        ("32", "Evaluation on internal data", "internal"),
        ("33", "Testing on external data", "external"),
        ("34", "Clinical trial registration", "registration"),
        ("35", "Numbers of patients included and excluded", "participant_flow"),
        ("36", "Demographic and clinical characteristics", "demographics"),
        ("37", "Performance and its uncertainty", "performance"),
        ("38", "Diagnostic performance and its precision", "diagnostic"),
        ("39", "Failure analysis", "failures"),
        ("40", "Limitations", "limitations"),
        ("41", "Implications for practice", "implications"),
        ("42", "Study protocol and technical details", "protocol"),
        ("43", "Availability of software, model and data", "availability"),
        ("44", "Funding", "funding"),
    ),
)

TRIPOD = Checklist(
    "TRIPOD+AI",
    _items(
        ("1", "Title: model, population, outcome", "technology population"),
        ("2", "Abstract", "summary conclusions"),
        ("3a", "Healthcare context and existing models", "background"),
        ("3b", "Target population, purpose and users", "population intended_use"),
        ("3c", "Known health inequalities", "inequalities"),
        ("4", "Objectives", "aims goal"),
        ("5a", "Data sources", "sources"),
        ("5b", "Dates of the data", "dates"),
        ("6a", "Setting and centers", "centers"),
        ("6b", "Eligibility criteria", "eligibility"),
        ("6c", "Treatments", "treatments"),
        ("7", "Data preparation and quality", "preprocessing missing_data"),
        ("8a", "Outcome and its assessment", "reference_standard reference_rationale"),
        ("8b", "Assessors of the outcome", "annotators"),
        ("8c", "Blinding of the outcome assessment", "blinding"),
        ("9a", "Choice of predictors", "predictors"),
        ("9b", "Definition of predictors", "predictors acquisition"),
        ("9c", "Assessors of the predictors", "predictors"),
        ("10", "Sample size", "sample_size"),
        ("11", "Missing data", "missing_data"),
        ("12a", "Use of the data for development and evaluation", "partitions partition_level"),
        ("12b", "Handling of predictors", "preprocessing"),
        ("12c", "Model type, building, tuning, validation", "model training selection"),
        ("12d", "Heterogeneity between clusters", "heterogeneity"),
        ("12e", "Performance measures and plots", "metrics uncertainty"),
        ("12f", "Model updating", "updating"),
        ("12g", "Calculation of predictions", "prediction"),
        ("13", "Class imbalance", "imbalance"),
        ("14", "Fairness", "fairness"),
        ("15", "Model output and thresholds", "output"),
        ("16", "Differences of training and evaluation data", "difference"),
        ("17", "Ethical approval", "ethics"),
        ("18a", "Funding", "funding"),
        ("18b", "Conflicts of interest", "conflicts"),
        ("18c", "Protocol", "protocol"),
        ("18d", "Registration", "registration"),
        ("18e", "Data sharing", "data_sharing"),
        ("18f", "Code sharing", "availability"),
        ("19", "Patient and public involvement", "involvement"),
        ("20a", "Participant flow", "participant_flow"),
        ("20b", "Participant characteristics", "demographics"),
        ("20c", "Comparison with the development data", "difference"),
        ("21", "Numbers in each analysis", "participant_flow"),
        ("22", "Specification of the full model", "specification"),
        ("23a", "Performance, also in subgroups", "performance diagnostic subgroups"),
        ("23b", "Heterogeneity of the performance", "heterogeneity"),
        ("24", "Results of updating", "updating"),
        ("25", "Interpretation", "conclusions"),
        ("26", "Limitations", "limitations"),
        ("27a", "Poor or missing input data in use", "input_quality"),
        ("27b", "User interaction and expertise", "user_requirements"),
        ("27c", "Next steps of research", "implications"),
    ),
)
CHECKLISTS = (CLAIM, TRIPOD)
TOPICS = tuple(
    dict.fromkeys(
        topic for checklist in CHECKLISTS for item in checklist.items for topic in item.topics
    )
)
