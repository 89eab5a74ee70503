"""Repeats of a cross-validation: their seeds, and which folds are still to be trained."""

from __future__ import annotations

from pathlib import Path

from raysearch.search.journal.history import Trial
from raysearch.search.study.fold_scores import repeat_out_of_fold
from raysearch.search.study.repeats import FoldRepeat, missing_folds, repeat_seeds
from support.champion_studies import study_with_started_trial, train_repeat


def test_repeat_seeds_depend_on_the_trial_and_never_include_its_own_seed() -> None:
    trial = Trial("t0003", "trial", {}, 5, 2)
    seeds = repeat_seeds(7, trial, 4)
    assert len({5, *seeds}) == 5
    assert repeat_seeds(7, trial, 2) == seeds[:2]
    other_trial = Trial("t1", "trial", {}, 5, 2)
    assert not {*repeat_seeds(8, trial, 4), *repeat_seeds(7, other_trial, 4)} & {*seeds}
    same_seed = Trial("t0003", "trial", {}, seeds[1], 2)
    assert repeat_seeds(7, same_seed, 3) == [seeds[0], *seeds[2:]]


def test_only_folds_whose_files_are_missing_or_damaged_are_trained(
    shards: Path, tmp_path: Path
) -> None:
    study = study_with_started_trial(shards, tmp_path / "studies" / "repeated")
    trial, folder = study.history.trials["t0000"], study.folder

    def missing(*, networks: bool = True) -> list[int]:
        repeats = missing_folds(folder, study.plan, trial, [11], networks=networks)
        return [repeat.fold for repeat in repeats]

    assert missing() == [0, 1]
    train_repeat(study, trial, 11, 1)
    assert missing() == [0]
    train_repeat(study, trial, 11, 0)
    assert missing() == []
    other_seed = missing_folds(folder, study.plan, trial, [12], networks=True)
    assert other_seed[0] == FoldRepeat(12, 0)
    scores = repeat_out_of_fold(folder, study.plan, trial, 11, range(2))
    assert scores is not None
    assert sorted(scores.rows) == list(range(240))
    network = folder.repeat_network("t0000", 11, 0)
    content = folder.read(network)
    folder.write(network, content[:-1] + bytes([content[-1] ^ 1]))
    assert missing() == [0]
    assert missing(networks=False) == []
    folder.write(network, content)
    folder.remove(folder.repeat_scores("t0000", 11, 1))
    assert missing() == [1]
