"""Signals raise one exception, which is not repeated while the state is saved."""

from __future__ import annotations

import os
import signal
import time

import pytest

from raysearch.search.engine.interrupts import (
    SIGNALS,
    InterruptedStudyError,
    done_at_loss,
    ignored_signals,
    signals_interrupt,
)


def send(signum: int) -> int | None:
    """Send a signal to this process; return the signal of the exception that follows."""
    try:
        os.kill(os.getpid(), signum)
        time.sleep(0.05)
    except InterruptedStudyError as interrupt:
        return interrupt.signum
    return None


def handlers() -> list[object]:
    return [signal.getsignal(signum) for signum in SIGNALS]


@pytest.mark.parametrize("signum", SIGNALS)
def test_the_first_signal_is_raised_and_the_next_are_ignored_for_a_while(
    signum: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = handlers()
    with signals_interrupt() as receiver:
        assert send(signum) == signum
        assert [send(repeated) for repeated in SIGNALS] == [None, None, None]
        monkeypatch.setattr("raysearch.search.engine.interrupts.REPEAT_S", 0.0)
        assert send(signal.SIGINT) == signal.SIGINT
        assert receiver.signum == signum
    assert handlers() == before


def interrupted_by_ray() -> None:
    with signals_interrupt():
        assert send(signal.SIGTERM) == signal.SIGTERM
        raise KeyboardInterrupt


def test_a_plain_keyboard_interrupt_becomes_the_signal_that_was_received() -> None:
    with pytest.raises(InterruptedStudyError) as caught:
        interrupted_by_ray()
    assert caught.value.signum == signal.SIGTERM


def test_nested_handlers_share_what_was_received() -> None:
    with signals_interrupt() as outer:
        with signals_interrupt() as inner:
            assert inner is outer
            assert send(signal.SIGTERM) == signal.SIGTERM
        assert send(signal.SIGTERM) is None


def test_an_ignored_sighup_stays_ignored_and_signals_can_be_ignored() -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
            with ignored_signals():
                os.kill(os.getpid(), signal.SIGTERM)
    finally:
        assert signal.signal(signal.SIGHUP, previous) is signal.SIG_IGN


def test_an_action_for_the_loss_of_ray_is_kept_within_its_context() -> None:
    with signals_interrupt() as receiver:
        with done_at_loss(lambda: None):
            assert len(receiver.loss_actions) == 1
        assert receiver.loss_actions == []
