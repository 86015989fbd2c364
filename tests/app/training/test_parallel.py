"""Regularizers as actors: whatever one of them does, its span is closed, its neighbours are done, and it is named."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from threading import TIMEOUT_MAX
from typing import Any

import autograd.numpy as np
import gevent
import pykka
import pytest
from greenlet import GreenletExit

import actors
import runtime
from app.training.custom_loss import custom_loss
from app.training.regularizers import Regularizer, RegularizerError, l1, l2
from tests.app.training.conftest import Captured
from tests.runtime.meeting import until

ROOT = Path(__file__).parents[3]
COMPUTE = "tinkex.regularizer.compute"


class Mark:
    """Something that a thread has, and that goes when the thread does."""

    _kept = threading.local()

    @classmethod
    def of_this_thread(cls) -> weakref.ref[Mark]:
        cls._kept.mark = mark = cls()
        return weakref.ref(mark)


class Hung:
    """A regularizer that does not return before it is let go."""

    def __init__(self) -> None:
        self.entered, self.release, self.left = threading.Event(), threading.Event(), threading.Event()
        self.actor: Any = None
        self.thread: Any = None

    def __call__(self, data: object, x: Any) -> Any:
        self.actor = actors.current_actor()
        self.thread = Mark.of_this_thread()
        self.entered.set()
        assert self.release.wait(60)
        self.left.set()
        return np.sum(x)


@pytest.fixture
def hung() -> Iterator[Hung]:
    hung = Hung()
    yield hung
    hung.release.set()
    if hung.entered.is_set():
        assert hung.left.wait(60)


def total(data: object, x: Any) -> Any:
    return np.sum(x)


def run_out_of_time(regularizer: Regularizer, begun: threading.Event, data: Any = ()) -> None:
    """Have losses give up on a regularizer until it was one that had begun: that takes time on a busy machine."""
    timeout_s = 0.5
    while not begun.is_set():
        with pytest.raises(RegularizerError):
            custom_loss(data, [1.0], total, [regularizer], parallel=True, timeout_s=timeout_s)
        timeout_s *= 2


def test_each_regularizer_runs_in_an_actor_of_its_own_on_its_own_thread() -> None:
    seen: list[tuple[Any, int]] = []
    together = threading.Barrier(3)

    def met(data: object, x: Any) -> Any:
        seen.append((actors.current_actor(), threading.get_ident()))
        together.wait(60)
        return np.sum(x)

    custom_loss([], [1.0], total, [Regularizer(met, 1.0, name) for name in "abc"], parallel=True)

    assert len({actor.id for actor, _ in seen}) == 3
    assert len({thread for _, thread in seen} | {threading.get_ident()}) == 4
    assert [actor.wait(60) for actor, _ in seen] == ["normal"] * 3


def test_slow_regularizer_runs_out_of_time_and_its_neighbours_are_done(hung: Hung, captured: Captured) -> None:
    regularizers = [Regularizer(l1, 1.0, "l1"), Regularizer(hung, 0.5, "slow"), Regularizer(l2, 1.0, "l2")]

    with pytest.raises(RegularizerError, match=r"expected regularizer 'slow' to compute, got: TimeoutError") as caught:
        custom_loss([], [1.0], total, regularizers, parallel=True, timeout_s=1.0)

    assert isinstance(caught.value.reason, TimeoutError)
    late = captured.one(f"{COMPUTE}.exception")
    assert (late.metadata["regularizer_name"], late.metadata["weight"]) == ("slow", 0.5)
    assert late.metadata["reason"] is caught.value.reason
    assert {stop.metadata["regularizer_name"] for stop in captured.of(f"{COMPUTE}.stop")} == {"l1", "l2"}
    assert captured.one("tinkex.custom_loss.exception").metadata["reason"] is caught.value
    assert captured.is_balanced()


def test_late_result_of_an_abandoned_regularizer_changes_nothing(hung: Hung, captured: Captured) -> None:
    run_out_of_time(Regularizer(hung, 1.0, "slow"), hung.entered)
    assert hung.actor.wait(60) == "killed"
    names = captured.names()

    hung.release.set()
    assert hung.left.wait(60)
    custom_loss([], [1.0], total, [Regularizer(l1, 1.0, "l1")], parallel=True)

    assert captured.of(f"{COMPUTE}.stop", regularizer_name="slow") == []
    assert captured.names()[: len(names)] == names
    assert captured.is_balanced()


def test_killed_regularizer_is_noticed_at_once(hung: Hung, captured: Captured) -> None:
    def kill() -> None:
        assert hung.entered.wait(60)
        hung.actor.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(
        RegularizerError, match="expected regularizer 'doomed' to compute, got: ActorDeadError"
    ) as caught:
        custom_loss([], [1.0], total, [Regularizer(hung, 1.0, "doomed")], parallel=True, timeout_s=3600)
    killer.join()

    assert isinstance(caught.value.reason, pykka.ActorDeadError)
    assert captured.one(f"{COMPUTE}.exception").metadata["regularizer_name"] == "doomed"
    assert captured.is_balanced()


@pytest.mark.parametrize(
    "end",
    [
        KeyboardInterrupt,
        SystemExit,
        GeneratorExit,
        GreenletExit,
        gevent.Timeout,
        asyncio.CancelledError,
        StopIteration,
        MemoryError,
        actors.Exit,
        actors.Ignore,
        BaseException,
    ],
)
def test_regularizer_that_ends_its_actor_ends_nothing_else(end: type[BaseException], captured: Captured) -> None:
    def ending(data: object, x: Any) -> Any:
        raise end

    regularizers = [Regularizer(ending, 1.0, "ending"), Regularizer(l2, 1.0, "l2")]

    with pytest.raises(RegularizerError, match="expected regularizer 'ending' to compute") as caught:
        custom_loss([], [1.0], total, regularizers, parallel=True)

    assert isinstance(caught.value.reason, end)
    assert captured.one(f"{COMPUTE}.exception").metadata["reason"] is caught.value.reason
    assert captured.one(f"{COMPUTE}.stop").metadata["regularizer_name"] == "l2"
    assert captured.is_balanced()


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, GreenletExit, asyncio.CancelledError, StopIteration])
def test_async_regularizer_that_ends_its_loop_is_an_exception(end: type[BaseException], captured: Captured) -> None:
    async def ending(data: object, x: Any) -> Any:
        raise end

    with pytest.raises(RegularizerError, match="expected regularizer 'ending' to compute"):
        custom_loss([], [1.0], total, [Regularizer(ending, 1.0, "ending", async_=True)])

    assert captured.one(f"{COMPUTE}.exception").metadata["async"] is True
    assert captured.is_balanced()


def test_longest_timeout_can_be_waited_for(hung: Hung) -> None:
    helper = threading.Thread(target=lambda: hung.entered.wait(60) and hung.release.set())
    helper.start()

    output = custom_loss([], [1.0], total, [Regularizer(hung, 1.0, "slow")], parallel=True, timeout_s=TIMEOUT_MAX)
    helper.join()

    assert output.regularizers["slow"].value == 1.0


def test_loss_is_let_go_once_the_last_hung_regularizer_has_returned(hung: Hung) -> None:
    """While it hangs, its thread holds what it was given: a thread cannot be killed."""

    class Data(list[int]):
        pass

    data = Data()
    gone = weakref.ref(data)
    run_out_of_time(Regularizer(hung, 1.0, "slow"), hung.entered, data)
    del data
    assert gone() is not None
    assert hung.thread() is not None

    hung.release.set()

    until(lambda: gc.collect() >= 0 and gone() is None)
    until(lambda: hung.thread() is None)


HOSTED = """
import sys
import gevent
from gevent import monkey
if sys.argv[1] == "patched":
    monkey.patch_all()
import autograd.numpy as np
from app.training import Regularizer, RegularizerError, custom_loss
from app.training.regularizers import l1
from runtime.testing import capture_events

# The regularizers run on real threads, which cannot wait for what belongs to greenlets.
held = monkey.get_original("_thread", "allocate_lock")()
held.acquire()

def total(data, x):
    return np.sum(x)

async def awaited(data, x):
    return np.sum(x**2)

def hung(data, x):
    with held:
        return np.sum(x)

def losses():
    fine = [Regularizer(l1, 1.0, "l1"), Regularizer(awaited, 1.0, "l2", async_=True)]
    assert custom_loss([], [1.0, 2.0], total, fine, True, parallel=True).loss_total == 11.0
    try:
        custom_loss([], [1.0], total, [*fine, Regularizer(hung, 1.0, "hung")], parallel=True, timeout_s=0.1)
    except RegularizerError as error:
        assert isinstance(error.reason, TimeoutError), error
        return True

with capture_events("tinkex.*") as captured:
    greenlets = [gevent.spawn(losses) for _ in range(3)]
    gevent.joinall(greenlets, timeout=60)
    assert [each.value for each in greenlets] == [True] * 3, [each.exception for each in greenlets]
    waiting = gevent.spawn(custom_loss, [], [1.0], total, [Regularizer(hung, 1.0, "hung")], parallel=True)
    gevent.sleep(0)
    while not captured.events[-1].metadata.get("regularizer_name") == "hung":
        gevent.sleep(0.001)
    waiting.kill()
    phases = [event.name.rpartition(".")[2] for event in captured.events]
    assert phases.count("start") == len(phases) / 2 == 3 * 7 + 2, phases
    assert {phase for phase in phases[-2:]} == {"exception"}, phases
held.release()
print("done")
"""


@pytest.mark.parametrize("host", ["plain", "patched"])
def test_losses_of_greenlets_in_a_process_of_gevents(host: str) -> None:
    done = subprocess.run([sys.executable, "-c", HOSTED, host], cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert (done.stdout, done.stderr) == ("done\n", "")


def test_several_failures_are_told_in_the_order_of_the_regularizers(captured: Captured) -> None:
    def failing(data: object, x: Any) -> Any:
        raise OSError("boom")

    regularizers = [Regularizer(l1, 1.0, "fine"), *(Regularizer(failing, 1.0, name) for name in ("first", "second"))]

    with pytest.raises(RegularizerError) as caught:
        custom_loss([], [1.0], total, regularizers, parallel=True)

    assert caught.value.regularizer_name == "first"
    assert caught.value.__notes__ == ["expected regularizer 'second' to compute, got: OSError('boom')"]
    assert len(captured.of(f"{COMPUTE}.exception")) == 2
    assert captured.is_balanced()


def test_regularizer_that_gets_no_thread_is_named_and_everything_is_closed(hung: Hung, captured: Captured) -> None:
    usual = threading.stack_size(2**48)  # more than a process can have
    try:
        with pytest.raises(RegularizerError, match="expected regularizer 'a' to compute, got: RuntimeError") as caught:
            custom_loss([], [1.0], total, [Regularizer(hung, 1.0, name) for name in "abc"], parallel=True)
    finally:
        threading.stack_size(usual)

    assert len(caught.value.__notes__) == 2
    assert len(captured.of(f"{COMPUTE}.exception")) == 3
    assert captured.is_balanced()
    assert not hung.entered.is_set()


def test_interrupt_closes_every_span_and_ends_every_actor(hung: Hung, captured: Captured) -> None:
    """A real SIGINT reaches the main thread, which starts regularizers, or waits for them: all of them hang."""

    once = threading.Lock()

    def interrupting(data: object, x: Any) -> Any:
        if once.acquire(blocking=False):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return hung(data, x)

    names = {f"hangs {number}" for number in range(8)}

    with pytest.raises(KeyboardInterrupt):
        custom_loss([], [1.0], total, [Regularizer(interrupting, 1.0, name) for name in names], parallel=True)

    failed = captured.of(f"{COMPUTE}.exception")
    assert {event.metadata["regularizer_name"] for event in failed} == names
    assert {event.metadata["kind"] for event in failed} == {"exit"}
    assert captured.one("tinkex.custom_loss.exception").metadata["kind"] == "exit"
    assert captured.is_balanced()


def test_hung_gradient_runs_out_of_time_too(hung: Hung, captured: Captured) -> None:
    calls: list[str] = []

    def hangs_when_differentiated(data: object, x: Any) -> Any:
        calls.append(type(x).__name__)
        return np.sum(x) if calls == ["ndarray"] else hung(data, x)

    regularizers = [Regularizer(hangs_when_differentiated, 1.0, "slow")]

    with pytest.raises(RegularizerError, match="TimeoutError"):
        custom_loss([], [1.0], total, regularizers, track_grad_norms=True, parallel=True, timeout_s=1.0)

    assert calls == ["ndarray", "ArrayBox"]
    assert captured.is_balanced()


def test_async_regularizer_runs_out_of_time_also_when_not_parallel(captured: Captured) -> None:
    release = threading.Event()

    async def never(data: object, x: Any) -> Any:
        release.wait(60)
        return np.sum(x)

    with pytest.raises(RegularizerError, match=r"expected regularizer 'never' to compute within 0.1 s, got"):
        custom_loss([], [1.0], total, [Regularizer(never, 1.0, "never", async_=True)], timeout_s=0.1)
    release.set()

    assert captured.one(f"{COMPUTE}.exception").metadata["async"] is True
    assert captured.is_balanced()


def test_abandoned_coroutine_is_cancelled_and_its_thread_ends(captured: Captured) -> None:
    threads: list[weakref.ref[Mark]] = []
    seen: list[str] = []

    async def never(data: object, x: Any) -> Any:
        threads.append(Mark.of_this_thread())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with pytest.raises(RegularizerError, match=r"expected regularizer 'never' to compute within 1.0 s, got"):
        custom_loss([], [1.0], total, [Regularizer(never, 1.0, "never", async_=True)], timeout_s=1.0)
    until(lambda: seen == ["cancelled"])

    until(lambda: threads[0]() is None)
    assert len(captured.of(f"{COMPUTE}.exception")) == 1
    assert captured.is_balanced()


def test_no_regularizers_at_all_in_parallel() -> None:
    assert custom_loss([], [1.0], total, parallel=True).regularizer_total == 0


def test_regularizers_see_the_context_of_their_caller() -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request")
    request.set("r1")

    def look(data: object, x: Any) -> Any:
        return np.sum(x), {"request": request.get("none")}

    output = custom_loss([], [1.0], total, [Regularizer(look, 1.0, "look")], parallel=True)

    assert output.regularizers["look"].custom == {"request": "r1"}


def test_loss_computed_inside_an_actor(captured: Captured) -> None:
    class Trainer(actors.Actor):
        def on_receive(self, message: list[float]) -> float:
            regularizers = [Regularizer(l1, 1.0, "l1"), Regularizer(l2, 1.0, "l2")]
            return custom_loss([], message, total, regularizers, parallel=True).loss_total

    # Waiting for actors gives the hub back to the other green actors; only the base loss occupies it.
    for carrier in ("thread", "green"):
        trainer = Trainer.options(carrier=carrier).start()
        assert trainer.ask([1.0, 2.0], timeout=60) == 11.0
        trainer.stop()

    assert captured.is_balanced()


def test_emitting_goes_on_without_anybody_attached() -> None:
    assert runtime.list_handlers("tinkex") == []

    assert custom_loss([], [1.0], total, [Regularizer(l1, 1.0, "l1")], parallel=True).loss_total == 2.0
