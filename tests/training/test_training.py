import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysearch.config.space_file import parse_space
from raysearch.models.dihedral import kinds, turned
from raysearch.search.engine import reporter
from raysearch.search.engine import worker_tasks as worker
from raysearch.search.engine.worker_tasks import within_memory
from raysearch.search.journal.study_folder import StudyFolder
from raysearch.search.study.plan import make_plan
from raysearch.search.study.study import create_study
from raysearch.search.study.trial_data import refit_data, train_config
from raysearch.training.batches import batch_of, cut, mixed
from raysearch.training.checkpoint import unpack
from raysearch.training.components import OPTIMIZERS, SCHEDULES
from raysearch.training.components.losses import cross_entropy, focal
from raysearch.training.components.optimizers import sgd
from raysearch.training.components.schedules import one_cycle
from raysearch.training.failures import TrainingFailedError
from raysearch.training.fold_training import FoldRun, Judged
from raysearch.training.loop import measure, train
from raysearch.training.numerics import CANDIDATES, Numerics, choose_numerics, device_kind
from raysearch.training.row_order import balanced_order
from raysearch.training.train_config import TrainConfig
from raysearch.training.training_data import AuxiliaryRows, TrainingData
from raysearch.training.weight_averaging import averaged
from support.recorded_training import HPARAMS, Recorder, config


def test_a_trial_trains_a_fresh_model_a_fold_and_reports_each_fold_epoch(
    data: TrainingData,
) -> None:
    record = Recorder()
    train(config(), data, record)
    assert [(one.epoch, one.fold) for one in record.reports] == [(1, 0), (2, 0), (3, 1), (4, 1)]
    ends = [record.reports[1].metrics["auroc"], record.reports[3].metrics["auroc"]]
    assert ends[0] is not None
    assert ends[1] is not None
    assert record.reports[0].objective == record.reports[0].metrics["auroc"]
    assert record.reports[3].objective == pytest.approx((ends[0] + ends[1]) / 2, abs=1e-15)
    for done, judged in zip(record.reports, record.judged, strict=True):
        assert (judged.rows == data.folds[done.fold][1]).all()
        assert judged.logits.shape == (len(judged.rows), 2)


def test_the_same_trial_retrains_to_the_same_numbers(data: TrainingData) -> None:
    first, second = Recorder(), Recorder()
    train(config(optimizer="sgd", momentum=0.9, dropout=0.2), data, first)
    torch.rand(7)
    train(config(optimizer="sgd", momentum=0.9, dropout=0.2), data, second)
    assert first.numbers() == second.numbers()
    other = Recorder()
    train(dataclasses.replace(config(), seed=6), data, other)
    assert other.numbers() != first.numbers()


@pytest.mark.parametrize("after", [1, 2, 3, 4])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_trial_that_goes_on_from_its_checkpoint_is_as_if_it_had_not_stopped(
    data: TrainingData, after: int, schedule: str
) -> None:
    whole, begun, rest = Recorder(), Recorder(after), Recorder()
    train(config(schedule=schedule, dropout=0.1), data, whole)
    with pytest.raises(InterruptedError):
        train(config(schedule=schedule, dropout=0.1), data, begun)
    train(config(schedule=schedule, dropout=0.1), data, rest, unpack(begun.states[-1]))
    assert begun.numbers() + rest.numbers() == whole.numbers()


def test_a_loss_that_is_not_finite_ends_the_trial_with_the_reason(data: TrainingData) -> None:
    with pytest.raises(TrainingFailedError, match="nan"):
        train(
            config(optimizer="sgd", learning_rate=100.0, weight_decay=10.0, batch_size=4),
            data,
            Recorder(),
        )


def test_a_net_learns_more_than_chance(data: TrainingData) -> None:
    record = Recorder()
    train(dataclasses.replace(config(width=8), epochs=8), data, record)
    assert record.reports[-1].objective > 0.6


@pytest.mark.parametrize("steps", [1, 4, 10, 40])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.25, 0.3, 0.999])
def test_one_cycle_rises_and_falls_and_leaves_the_momentum_alone(steps: int, warmup: float) -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = sgd([weight], learning_rate=0.1, momentum=0.5)
    schedule = one_cycle(optimizer, steps, warmup=warmup)
    rates = []
    for _ in range(steps):
        assert optimizer.param_groups[0]["momentum"] == 0.5
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < steps:
            schedule.step()
    assert max(rates) <= 0.1 + 1e-12
    if steps > 1:
        assert rates[-1] < 1e-5
        top = rates.index(max(rates))
        assert rates[: top + 1] == sorted(rates[: top + 1])
        assert rates[top:] == sorted(rates[top:], reverse=True)


def rates_of(name: str, steps: int, **hparams: Any) -> list[float]:
    """The learning rates of `steps` steps, as shares of the one that is asked for."""
    optimizer = sgd([torch.nn.Parameter(torch.ones(1))], learning_rate=0.1)
    schedule = SCHEDULES[name](optimizer, steps, **hparams)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"] / 0.1)
        optimizer.step()
        schedule.step()
    return rates


def test_schedules_fall_as_their_formulas_say() -> None:
    assert rates_of("constant", 3) == pytest.approx([1, 1, 1])
    assert rates_of("cosine", 4) == pytest.approx([1, 0.85355339, 0.5, 0.14644661])
    assert rates_of("exponential", 4, final_lr_fraction=0.0625) == pytest.approx(
        [1, 0.5, 0.25, 0.125]
    )


@pytest.mark.parametrize("name", ["constant", "cosine", "exponential"])
@pytest.mark.parametrize("steps", [1, 2, 8, 9])
@pytest.mark.parametrize("warmup", [0.1, 0.5, 0.999])
def test_a_warm_up_rises_evenly_and_nothing_is_above_the_learning_rate(
    name: str, steps: int, warmup: float
) -> None:
    rates = rates_of(name, steps, warmup=warmup)
    assert all(0 < rate <= 1 for rate in rates)
    rise = [rate for step, rate in enumerate(rates) if step < warmup * steps]
    steps_up = np.diff([0.0, *rise])
    assert steps_up == pytest.approx(np.full(len(rise), rise[0]))
    assert rates[len(rise) :] == sorted(rates[len(rise) :], reverse=True)


def test_a_plateau_of_what_is_learned_lowers_the_learning_rate(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = FoldRun(
        config(
            optimizer="sgd",
            schedule="reduce_on_plateau",
            learning_rate=0.5,
            plateau_factor=0.5,
            plateau_patience=1,
        ),
        data,
        0,
    )
    loss = torch.tensor(1.0, requires_grad=True)
    monkeypatch.setattr(FoldRun, "loss_of", lambda *_args: 0 * loss + 1.0)
    rates = []
    for epoch in range(5):
        run.learn(epoch)
        rates.append(run.steps.optimizer.param_groups[0]["lr"])
    assert rates == [0.5, 0.5, 0.25, 0.25, 0.125]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_optimizer_lowers_the_loss_and_goes_on_from_its_checkpoint(
    data: TrainingData, optimizer: str
) -> None:
    hparams = {**HPARAMS, "optimizer": optimizer, "schedule": "constant"}
    del hparams["learning_rate"]
    way = TrainConfig(hparams, epochs=3, metric="auroc", seed=5)
    whole, begun, rest = Recorder(), Recorder(2), Recorder()
    train(way, data, whole)
    assert whole.reports[2].loss < whole.reports[0].loss
    with pytest.raises(InterruptedError):
        train(way, data, begun)
    train(way, data, rest, unpack(begun.states[-1]))
    assert begun.numbers() + rest.numbers() == whole.numbers()


def test_losses_are_those_of_their_papers() -> None:
    logits = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    labels, weight = torch.arange(9) % 3, torch.tensor([0.5, 1.0, 2.0])
    plain = torch.nn.functional.cross_entropy(logits, labels, weight, reduction="none")
    assert torch.allclose(cross_entropy(logits, labels, weight), plain)
    assert torch.allclose(focal(logits, labels, weight, focal_gamma=0.0), plain)
    sure = torch.softmax(logits, 1)[torch.arange(9), labels]
    assert torch.allclose(focal(logits, labels, weight), (1 - sure) ** 2 * plain)
    logs = torch.log_softmax(logits, 1)
    smooth = -(0.7 * logs[torch.arange(9), labels] + 0.1 * logs.sum(1))
    assert torch.allclose(cross_entropy(logits, labels, None, label_smoothing=0.3), smooth)


def test_a_focal_loss_of_a_sure_label_has_a_finite_slope() -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    focal(logits, torch.zeros(2, dtype=torch.int64), None, focal_gamma=0.5).sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("rows", [10, 11, 90])
def test_balanced_sampling_takes_each_class_as_often_and_each_of_its_rows(rows: int) -> None:
    labels = np.array([0] * (rows - 3) + [1] * 3, np.int64)
    order = balanced_order(np.arange(rows) + 5, labels, 1, 0, 2)
    assert len(order) == rows
    times = np.bincount(order - 5, minlength=rows)
    assert abs(times[:-3].sum() - times[-3:].sum()) <= 1
    assert np.ptp(times[-3:]) <= 1
    assert times[:-3].max() == 1
    assert np.array_equal(order, balanced_order(np.arange(rows) + 5, labels, 1, 0, 2))
    assert not np.array_equal(order, balanced_order(np.arange(rows) + 5, labels, 1, 0, 3))


def test_balanced_sampling_needs_no_class_weights(data: TrainingData) -> None:
    run = FoldRun(config(balanced_sampling=True), data, 0)
    assert run.class_weights() is None
    counts = np.bincount(data.labels.numpy()[run.order(0)])
    assert np.ptp(counts) <= 1
    assert len(run.order(0)) == len(run.own_rows)


def test_mixup_blends_patches_and_their_losses_by_the_same_share() -> None:
    batch, rows = torch.randn(6, 3, 4, 4), torch.arange(10, 16)
    blend, ((own, fraction), (other, rest)) = mixed(
        batch, rows, 0.3, torch.Generator().manual_seed(0)
    )
    assert torch.equal(own, rows)
    assert sorted(other.tolist()) == rows.tolist() != other.tolist()
    assert (fraction, rest) == (0.3, 0.7)
    assert torch.allclose(blend, 0.3 * batch + 0.7 * batch[other - 10], atol=1e-6)


def test_the_loss_of_a_mix_is_the_mix_of_the_losses(data: TrainingData) -> None:
    run = FoldRun(config(), data, 0)
    run.model.eval()
    rows = torch.from_numpy(run.own_rows[:20])
    batch, others = run.batch(rows), rows.roll(1)
    loss = run.descend(batch, [(rows, 0.3), (others, 0.7)])
    logits = run.model(batch)
    wanted = 0.3 * run.loss_of(logits, rows) + 0.7 * run.loss_of(logits, others)
    assert torch.allclose(loss, wanted)


def test_an_average_forgets_its_first_weights_and_judges_in_place_of_the_last(
    data: TrainingData,
) -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = averaged(model, 0.5)
    assert average is not None
    wanted = 0.0
    for step in range(6):
        torch.nn.init.constant_(model.weight, float(step))
        average.update_parameters(model)
        kept = min(0.5, (1 + step) / (10 + step)) if step else 0.0
        wanted = kept * wanted + (1 - kept) * step
    assert [one.item() for one in average.module.parameters()] == pytest.approx([wanted])
    run = FoldRun(config(ema=0.9), data, 0)
    run.learn(0)
    assert run.net is not run.model
    logits = run.judge(averaged=False).logits
    with torch.inference_mode():
        last = run.model.eval()(run.batch(torch.from_numpy(run.judged_rows)))
    assert not np.allclose(logits, last.numpy(), atol=1e-4)


def test_no_step_is_along_a_gradient_longer_than_the_clip(data: TrainingData) -> None:
    hparams = {"optimizer": "sgd", "learning_rate": 1.0, "momentum": 0.0, "schedule": "constant"}
    for clip, longest in ((0.01, 0.01), (0.0, math.inf)):
        run = FoldRun(config(gradient_clip_norm=clip, **hparams), data, 0)
        rows = torch.from_numpy(run.own_rows[:32])
        before = [one.detach().clone() for one in run.model.parameters()]
        run.descend(run.batch(rows), [(rows, 1.0)])
        run.steps.step()
        moved = torch.cat(
            [
                (a - b).detach().flatten()
                for a, b in zip(run.model.parameters(), before, strict=True)
            ]
        )
        assert float(moved.norm()) <= longest * 1.001
        assert float(moved.norm()) > 0.009


def test_an_average_also_follows_what_batch_norm_counts(data: TrainingData) -> None:
    run = FoldRun(config(ema=0.5), data, 0)
    run.learn(0)
    counts = [one for one in run.net.buffers() if one.dtype == torch.int64]
    steps = len(cut(torch.from_numpy(run.rows), 32))
    assert len(counts) == 3
    assert all(0 < int(one) <= steps for one in counts)


ALL_OF_IT = {
    "loss": "focal",
    "balanced_sampling": True,
    "mixup": 0.4,
    "ema": 0.95,
    "gradient_clip_norm": 1.0,
    "dropout": 0.1,
    "rotation": 20.0,
    "stain_jitter": 0.1,
    "cutout": 0.2,
}


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_recipe_of_everything_goes_on_from_its_checkpoint_as_if_it_had_not_stopped(
    data: TrainingData, after: int
) -> None:
    whole, begun, rest = Recorder(), Recorder(after), Recorder()
    train(config(**ALL_OF_IT), data, whole)
    with pytest.raises(InterruptedError):
        train(config(**ALL_OF_IT), data, begun)
    train(config(**ALL_OF_IT), data, rest, unpack(begun.states[-1]))
    assert begun.numbers() + rest.numbers() == whole.numbers()


def test_a_lone_last_patch_joins_the_batch_before_it() -> None:
    index = torch.arange(9)
    assert [len(one) for one in cut(index, 4)] == [4, 5]
    assert [len(one) for one in cut(index, 5)] == [5, 4]
    assert [len(one) for one in cut(index, 2)] == [2, 2, 2, 3]
    assert torch.cat(cut(index, 2)).tolist() == index.tolist()


def test_class_weights_are_inverse_frequencies_with_mean_one_over_the_rows(
    data: TrainingData,
) -> None:
    weights = FoldRun(config(), data, 0).class_weights()
    assert weights is not None
    labels = data.labels[torch.from_numpy(data.folds[0][0])]
    assert float(weights[labels].mean()) == pytest.approx(1.0)
    assert FoldRun(config(class_weights=False), data, 0).class_weights() is None


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(6, 6), (4, 6)])
def test_each_patch_is_turned_as_it_was_drawn_in_the_layout_that_is_asked_for(
    layout: torch.memory_format, size: tuple[int, int]
) -> None:
    shape = (*size, 3)
    stored = torch.randint(256, (40, 3 * size[0] * size[1]), dtype=torch.uint8)
    found = batch_of(stored, shape, layout, torch.Generator().manual_seed(2))
    plain = batch_of(stored, shape, layout)
    by_hand = stored.view(-1, *shape).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert torch.allclose(plain, by_hand, atol=1e-6)
    count = kinds(*size)
    drawn = torch.randint(count, (40,), generator=torch.Generator().manual_seed(2))
    wanted = [turned(one[None], int(kind)) for one, kind in zip(plain, drawn, strict=True)]
    assert torch.equal(found, torch.cat(wanted))
    assert found.is_contiguous(memory_format=layout)
    assert plain.is_contiguous(memory_format=layout)


def turned_pixels(stored: torch.Tensor, seed: int) -> torch.Tensor:
    """Square grey patches (B, H*W), turned at random."""
    side = math.isqrt(stored.shape[1])
    found = batch_of(stored, (side, side, 1), turns=torch.Generator().manual_seed(seed))
    return torch.round((found + 1) * 127.5)


def test_flips_and_turns_are_the_eight_symmetries_and_keep_the_order() -> None:
    one = torch.arange(16.0).view(1, 1, 4, 4)
    found = turned_pixels(one.view(1, 16).to(torch.uint8).expand(4000, 16), 0)
    each, counts = torch.unique(found.view(4000, 16), dim=0, return_counts=True)
    expected = {
        tuple(torch.rot90(base, turns, (2, 3)).flatten().tolist())
        for base in (one, one.flip(3))
        for turns in range(4)
    }
    assert {tuple(one.tolist()) for one in each} == expected
    assert int(counts.min()) > 400
    marked = torch.arange(64, dtype=torch.uint8).view(64, 1).expand(64, 16)
    assert torch.equal(turned_pixels(marked, 1).view(64, 16), marked.float())


def test_a_fold_ends_with_the_mean_of_all_turns_where_it_is_asked_for(data: TrainingData) -> None:
    plain, averaged = Recorder(), Recorder()
    train(config(), data, plain)
    train(config(tta="dihedral"), data, averaged)
    assert np.array_equal(plain.judged[0].logits, averaged.judged[0].logits)  # not the end
    run = FoldRun(config(tta="dihedral"), data, 0)
    run.load(unpack(averaged.states[1]))
    rows = torch.from_numpy(run.judged_rows)
    turns = [
        torch.rot90(base, times, (2, 3))
        for base in (run.batch(rows), run.batch(rows).flip(3))
        for times in range(4)
    ]
    run.model.eval()
    with torch.inference_mode():
        mean = torch.stack([run.model(one) for one in turns]).mean(0)
    assert np.allclose(averaged.judged[1].logits, mean.numpy(), atol=1e-5)
    assert not np.allclose(plain.judged[1].logits, mean.numpy(), atol=1e-3)


def test_a_checkpoint_with_any_byte_changed_is_rejected(data: TrainingData) -> None:
    record = Recorder(1)
    with pytest.raises(InterruptedError):
        train(config(), data, record)
    good = record.states[0]
    assert unpack(good)["epoch"] == 1
    for place in [*range(60), *range(60, len(good), 997)]:
        with pytest.raises(ValueError, match="hash does not match"):
            unpack(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
    with pytest.raises(ValueError, match="hash does not match"):
        unpack(good[:-1])


def test_numerics_are_one_of_the_candidates_and_named_by_the_device() -> None:
    cpu = torch.device("cpu")
    found = choose_numerics("cnn", {"width": 4, "convolutions": 1}, (16, 16, 3), 2, cpu)
    assert found in CANDIDATES
    assert device_kind(cpu)


def test_bfloat16_trains_to_finite_numbers(data: TrainingData) -> None:
    record = Recorder()
    way = Numerics("bfloat16", "channels_last")
    train(dataclasses.replace(config(), numerics=way), data, record)
    assert all(math.isfinite(one.loss) for one in record.reports)


def with_further(data: TrainingData) -> TrainingData:
    """`data` with two auxiliary sets, of its own patches turned upside down."""
    upside = data.pixels.flip(0)
    some = (
        AuxiliaryRows(upside[:40], data.labels.flip(0)[:40]),
        AuxiliaryRows(upside[40:50], data.labels[:10]),
    )
    return dataclasses.replace(data, further=some)


def test_auxiliary_rows_stand_after_the_studys_own(data: TrainingData) -> None:
    further = with_further(data)
    every = torch.cat([data.pixels, *(one.pixels for one in further.further)])
    rows = torch.randperm(len(every), generator=torch.Generator().manual_seed(1))[:99]
    assert torch.equal(further.gather(rows), every[rows])
    run = FoldRun(config(), further, 0)
    assert len(run.rows) == len(data.folds[0][0]) + 50
    assert np.array_equal(run.judged_rows, data.folds[0][1])
    assert run.judge(averaged=False).rows.max() < len(data.labels)


def test_auxiliary_rows_of_no_weight_change_nothing(data: TrainingData) -> None:
    without, beside = Recorder(), Recorder()
    train(config(), data, without)
    train(config(auxiliary_weight=0.0), with_further(data), beside)
    assert without.numbers() == beside.numbers()
    more = Recorder()
    train(config(auxiliary_weight=0.5), with_further(data), more)
    assert more.numbers() != without.numbers()


@pytest.mark.parametrize("class_weights", [True, False])
def test_an_auxiliary_row_counts_by_its_weight(data: TrainingData, class_weights: bool) -> None:
    hparams = {"class_weights": class_weights}
    run = FoldRun(config(auxiliary_weight=0.25, **hparams), with_further(data), 0)
    rows = torch.tensor([0, 5, 9, len(data.labels) + 3, len(data.labels) + 45])
    logits = torch.randn(5, 2, generator=torch.Generator().manual_seed(3))
    labels, weights = run.labels[rows], run.class_weights()
    count = torch.tensor([1, 1, 1, 0.25, 0.25])
    class_fraction = torch.ones(5) if weights is None else weights[labels]
    single = torch.nn.functional.cross_entropy(logits, labels, reduction="none") * class_fraction
    own, further = len(run.own_rows), len(run.rows) - len(run.own_rows)
    mean = (own + 0.25 * further) / (own + further)
    wanted = (single * count).sum() / class_fraction.sum() / mean
    assert torch.allclose(run.loss_of(logits, rows), wanted)
    alone = run.loss_of(logits[3:], rows[3:])
    plain = torch.nn.CrossEntropyLoss(weight=weights)
    assert torch.allclose(alone, plain(logits[3:], labels[3:]) * 0.25 / mean)
    whole = FoldRun(config(auxiliary_weight=1.0, **hparams), with_further(data), 0)
    assert torch.allclose(whole.loss_of(logits, rows), plain(logits, labels))


@pytest.mark.parametrize("accumulate", [2, 3, 4, 100])
@pytest.mark.parametrize("class_weights", [True, False])
@pytest.mark.parametrize("auxiliary_weight", [0.0, 0.25])
def test_micro_batches_have_the_gradient_of_the_whole_batch(
    data: TrainingData, accumulate: int, class_weights: bool, auxiliary_weight: float
) -> None:
    way = config(class_weights=class_weights, auxiliary_weight=auxiliary_weight)
    further = with_further(data)
    at_once = FoldRun(way, further, 0)
    cut_up = FoldRun(dataclasses.replace(way, accumulate=accumulate), further, 0)
    rows = torch.from_numpy(at_once.rows[-33:])
    losses = []
    for run in (at_once, cut_up):
        run.model = run.model.double().eval()  # batch norm by micro-batches is another
        losses.append(run.descend(run.batch(rows).double(), [(rows, 0.75), (rows.flip(0), 0.25)]))
    assert torch.allclose(losses[0], losses[1])
    assert list(at_once.model.parameters())
    for one, other in zip(at_once.model.parameters(), cut_up.model.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.allclose(one.grad, other.grad, rtol=1e-5, atol=1e-7)


def test_no_micro_batch_is_of_one_patch(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    original = FoldRun.loss_of

    def loss_of(run: FoldRun, logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return original(run, logits, rows)

    monkeypatch.setattr(FoldRun, "loss_of", loss_of)
    way = dataclasses.replace(config(batch_size=5), epochs=1, accumulate=4)
    record = Recorder()
    train(way, data, record)
    assert set(seen) <= {2, 3}
    assert all(math.isfinite(one.loss) for one in record.reports)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_one_batch_without_a_finite_loss_ends_the_trial_by_the_end_of_its_epoch(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    original, calls = FoldRun.loss_of, []

    def loss_of(run: FoldRun, logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        calls.append(len(rows))
        loss = original(run, logits, rows)
        return loss + value if len(calls) == 2 else loss

    monkeypatch.setattr(FoldRun, "loss_of", loss_of)
    record = Recorder()
    with pytest.raises(TrainingFailedError, match="nan-loss"):
        train(config(), data, record)
    assert not record.reports
    assert len(calls) == len(cut(torch.from_numpy(data.folds[0][0]), 32))


def test_a_trial_that_is_too_large_for_the_memory_is_trained_by_micro_batches(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = FoldRun.loss_of

    def loss_of(run: FoldRun, logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        if len(rows) > most:
            raise torch.OutOfMemoryError
        return original(run, logits, rows)

    monkeypatch.setattr(FoldRun, "loss_of", loss_of)
    tried: list[int] = []
    record = Recorder()

    def training(way: TrainConfig) -> None:
        tried.append(way.accumulate)
        train(way, data, record)

    most = 9
    within_memory(config(), training)
    assert tried == [1, 4]
    assert [one.epoch for one in record.reports] == [1, 2, 3, 4]
    most = 1
    with pytest.raises(TrainingFailedError, match="out-of-memory"):
        within_memory(config(), training)
    assert tried == [1, 4, 1, 4]


def test_the_reports_of_a_trial_by_micro_batches_say_so_and_its_refit_does_the_same(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = parse_space({"epochs": 1, "trials": 2, "space": {"folds": 2, **HPARAMS}}, "x")
    plan, splits = make_plan(space, "x", str(shards))
    study = create_study(StudyFolder(tmp_path / "x"), plan, splits)
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(worker, "get_device", worker.get_local_device)
    monkeypatch.setattr(reporter, "this_node", lambda: "here")
    monkeypatch.setattr(reporter, "draining_nodes", set)
    monkeypatch.setattr("ray.tune.report", sent.append)
    original, most = FoldRun.loss_of, 9

    def loss_of(run: FoldRun, logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        if len(rows) > most:
            raise torch.OutOfMemoryError
        return original(run, logits, rows)

    monkeypatch.setattr(FoldRun, "loss_of", loss_of)
    job = worker.Job(study.folder.address, str(shards), "t0000", HPARAMS, 1, 2, 0, 1.0)
    worker.train_job(job)
    reports = [json.loads(one["report"]) for one in sent]
    assert [(one["epoch"], one["micro_batch"]) for one in reports] == [(1, 8), (2, 8)]
    worker.refit_job(job)
    assert study.folder.exists(study.folder.CHAMPION)
    sent.clear()
    most = 1
    worker.train_job(dataclasses.replace(job, trial="t0001"))
    assert sent == [{"failure": "out-of-memory"}]
    with pytest.raises(TrainingFailedError, match="out-of-memory"):
        worker.refit_job(job)


def test_a_refit_that_missed_is_trained_with_other_seeds_and_the_best_is_kept(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = parse_space({"epochs": 1, "trials": 1, "space": {"folds": 2, **HPARAMS}}, "x")
    plan, splits = make_plan(space, "x", str(shards))
    study = create_study(StudyFolder(tmp_path / "x"), plan, splits)
    job = worker.Job(study.folder.address, str(shards), "t0000", HPARAMS, 1, 2, 0, 1.0)
    judged: list[tuple[float, Judged]] = []

    def spied(data: TrainingData, found: Judged) -> dict[str, float | None]:
        told = measure(data, found)
        judged.append((told["auroc"] or 0.0, found))
        return told

    monkeypatch.setattr(worker, "measure", spied)
    data = refit_data(study.folder.address, str(shards), "cpu")
    ((learned, own),) = data.folds
    assert len(learned) == 240 == len(set(own.tolist()))
    assert worker.refit_job(job, 0.0) == (judged[0][0], 1)
    first = study.folder.read(study.folder.CHAMPION)
    assert worker.refit_job(job, 2.0) == (max(judged[1:], key=lambda one: one[0])[0], 3)
    assert len(judged) == 4
    assert judged[1][0] == judged[0][0]
    assert len({value for value, _found in judged}) == 3
    kept = unpack(study.folder.read(study.folder.CHAMPION))
    net = FoldRun(train_config(plan, HPARAMS, 1, torch.device("cpu")), data, 0)
    net.model.load_state_dict(kept["model"])
    best = max(judged, key=lambda one: one[0])[1]
    assert np.abs(net.judge(averaged=True).logits - best.logits).max() < 1e-5
    assert worker.refit_job(job)[1] == 1
    assert study.folder.read(study.folder.CHAMPION) == first


ERRORS = """
import resource, sys, torch
from raysearch.training.memory import hand_back, keep_memory
sys.argv[1] == "keep" and keep_memory()
def step():  # 64 MB: above what glibc by itself keeps at once
    torch.ones(16_000_000)
for _ in range(30):  # glibc reuses aligned memory once its bins of odd ends are full
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096
kept = resident()
hand_back()
print(kept - resident())
"""


def test_memory_that_a_step_frees_is_there_for_the_next_and_can_be_handed_back() -> None:
    def found(how: str) -> list[int]:
        words = [sys.executable, "-c", ERRORS, how]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        return [int(line) for line in done.stdout.split()]

    plain, kept = found("plain"), found("keep")
    assert kept[0] < 0.1 * plain[0]
    assert kept[1] > 50_000_000
