"""What two reporting guidelines ask of a study, by the topics that answer each item.

CLAIM, 2024 update: Tejani et al., Radiology: Artificial Intelligence 2024, 6(4):e240300.
TRIPOD+AI: Collins et al., BMJ 2024, 385:e078378. The items are told in few words; what counts is
their text.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """An item by its `number` in its checklist, what it asks for, and the topics that answer it."""

    number: str
    asks: str
    topics: tuple[str, ...]


@dataclass(frozen=True)
class Checklist:
    """A guideline's items."""

    name: str
    items: tuple[Item, ...]


def _items(*rows: tuple[str, str, str]) -> tuple[Item, ...]:
    return tuple(Item(number, asks, tuple(topics.split())) for number, asks, topics in rows)


CLAIM = Checklist(
    "CLAIM 2024",
    _items(
        ("1", "The technology, in the title", "technology"),
        ("2", "A summary of design, methods, results and conclusions", "summary conclusions"),
        ("3", "Background, intended use and role", "background intended_use"),
        ("4", "Aims and hypotheses", "aims"),
        ("5", "Prospective or retrospective", "design"),
        ("6", "Goal of the study", "goal"),
        ("7", "Sources of the data", "sources"),
        ("8", "Inclusion and exclusion", "eligibility"),
        ("9", "Pre-processing", "preprocessing"),
        ("10", "Selection of subsets", "subsets"),
        ("11", "De-identification", "deidentification"),
        ("12", "Missing data", "missing"),
        ("13", "Image acquisition", "acquisition"),
        ("14", "Definition of the reference standard", "reference"),
        ("15", "Why this reference standard", "reference_why"),
        ("16", "Who annotated", "annotators"),
        ("17", "Annotation of the test set", "test_annotation"),
        ("18", "Variability within and between annotators", "variability"),
        ("19", "How data were assigned to partitions", "partitions"),
        ("20", "At what level partitions are apart", "level"),
        ("21", "Intended size of the sample", "size"),
        ("22", "The model in detail", "model"),
        ("23", "Software", "software"),
        ("24", "Initial parameters", "initial"),
        ("25", "Training in detail", "training"),
        ("26", "Selection of the final model", "selection"),
        ("27", "Ensembles", "ensemble"),
        ("28", "Metrics", "metrics"),
        ("29", "Significance and uncertainty", "uncertainty"),
        ("30", "Robustness or sensitivity", "robustness"),
        ("31", "Explainability", "explained"),
        ("32", "Evaluation on internal data", "internal"),
        ("33", "Testing on external data", "external"),
        ("34", "Registration of the trial", "registration"),
        ("35", "Numbers included and excluded", "flow"),
        ("36", "Patients of each partition", "demographics"),
        ("37", "Performance and its uncertainty", "performance"),
        ("38", "Diagnostic performance and its precision", "diagnostic"),
        ("39", "Analysis of failures", "failures"),
        ("40", "Limitations", "limits"),
        ("41", "What it means for practice", "implications"),
        ("42", "Protocol and further details", "protocol"),
        ("43", "Availability of software, model and data", "availability"),
        ("44", "Funding", "funding"),
    ),
)

TRIPOD = Checklist(
    "TRIPOD+AI",
    _items(
        ("1", "Title: model, population, outcome", "technology population"),
        ("2", "Abstract", "summary conclusions"),
        ("3a", "Context of care, and existing models", "background"),
        ("3b", "Population, purpose and users", "population intended_use"),
        ("3c", "Known inequalities", "inequalities"),
        ("4", "Objectives", "aims goal"),
        ("5a", "Sources of the data", "sources"),
        ("5b", "Dates of the data", "dates"),
        ("6a", "Setting and centres", "centres"),
        ("6b", "Eligibility", "eligibility"),
        ("6c", "Treatments", "treatments"),
        ("7", "Preparation and quality of the data", "preprocessing missing"),
        ("8a", "The outcome and how it was assessed", "reference reference_why"),
        ("8b", "Who assessed the outcome", "annotators"),
        ("8c", "Blinding of that", "blinding"),
        ("9a", "Choice of predictors", "predictors"),
        ("9b", "Definition of predictors", "predictors acquisition"),
        ("9c", "Who assessed predictors", "predictors"),
        ("10", "Size of the sample", "size"),
        ("11", "Missing data", "missing"),
        ("12a", "How the data were used", "partitions level"),
        ("12b", "Handling of predictors", "preprocessing"),
        ("12c", "Type of model, building, tuning, validation", "model training selection"),
        ("12d", "Differences between clusters", "heterogeneity"),
        ("12e", "Measures and plots of performance", "metrics uncertainty"),
        ("12f", "Updating of the model", "updating"),
        ("12g", "How predictions were calculated", "prediction"),
        ("13", "Imbalance of classes", "imbalance"),
        ("14", "Fairness", "fairness"),
        ("15", "Output and thresholds", "output"),
        ("16", "Differences of training and evaluation data", "difference"),
        ("17", "Ethical approval", "ethics"),
        ("18a", "Funding", "funding"),
        ("18b", "Conflicts of interest", "conflicts"),
        ("18c", "Protocol", "protocol"),
        ("18d", "Registration", "registration"),
        ("18e", "Sharing of data", "data_sharing"),
        ("18f", "Sharing of code", "availability"),
        ("19", "Involvement of patients and public", "involvement"),
        ("20a", "Flow of participants", "flow"),
        ("20b", "Characteristics of participants", "demographics"),
        ("20c", "Comparison with development data", "difference"),
        ("21", "Numbers in each analysis", "flow"),
        ("22", "The full model", "specification"),
        ("23a", "Performance with intervals, in subgroups", "performance diagnostic subgroups"),
        ("23b", "Differences of performance between clusters", "heterogeneity"),
        ("24", "Results of updating", "updating"),
        ("25", "Interpretation", "conclusions"),
        ("26", "Limitations", "limits"),
        ("27a", "Poor or missing input in use", "input_quality"),
        ("27b", "What users have to do and know", "users"),
        ("27c", "Next steps", "implications"),
    ),
)
CHECKLISTS = (CLAIM, TRIPOD)
TOPICS = tuple(
    dict.fromkeys(topic for one in CHECKLISTS for item in one.items for topic in item.topics)
)
