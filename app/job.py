"""One run of the main job, from the empty platform to the summary.

Owns the order of things: everything that listens is attached before the application starts, the replay works in the
calling thread, the application is stopped (which drains and flushes) before anything is counted, and the storage and
the listener end last. Whatever happens, what was started is stopped.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from actors import whereis
from actors.aggregator import NAME as AGGREGATOR
from app import accounts, chaos, summary
from app.application import Anvil
from app.labeling import lexicon
from app.labeling.storage import Storage
from app.latency import TimedEmit
from app.ledger import Ledger
from app.listener import Received, StatsdListener
from app.options import Options
from app.replay import Replay, open_platform
from app.screen import Screen
from app.training.loop import train
from app.training.outputs import CustomLossOutput
from runtime.errors import BeamstalkError, expected

LABELS_METRIC = "anvil.label.submit.count"


class UnwritableDirectory(BeamstalkError):
    """Say that exports could not be written where they are wanted, before a run is spent on them."""


def run(options: Options, screen: Screen) -> summary.Summary:
    """Do the whole job; blocks until the summary is there.

    A KeyboardInterrupt while labelling ends the labelling and nothing else; a later one ends the run.
    Raises InvalidValue (more samples than there are), DatasetMissing, UnwritableDirectory, StartError, sqlite3.Error.
    """
    tokens = _tokens(options.samples)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="anvil-")))
        directory = _writable(options.export or work / "exports")
        listener = stack.enter_context(StatsdListener(lambda received: screen.line(_live(received))))
        storage = Storage(work / "labels.db")
        stack.callback(storage.close)
        emit = TimedEmit()
        platform, issuer = open_platform(storage, emit)
        ledger = Ledger()
        stack.enter_context(ledger.attached())
        if options.chaos:
            stack.enter_context(chaos.attached())
        application = Anvil(platform, options.statsd or listener.address)
        application.start()
        stack.callback(application.stop)

        replay = Replay(
            platform,
            issuer,
            tokens,
            rate=options.rate,
            abandon=options.abandon,
            finished=_finished_after(options.duration_s),
        )
        interrupted = _label(replay, len(tokens) * lexicon.RATERS, screen)
        report, manifests = replay.conclude(directory)
        training = None if interrupted else _train(options.train)

        restarts = accounts.restarts(application.supervisor)
        aggregator = whereis(AGGREGATOR)
        application.stop()
        listeners = accounts.accounts([aggregator] if aggregator is not None else [])
        sent = application.statsd.statistics()
    # The listener has taken in everything by now.
    received = None if options.statsd else listener.received()
    return summary.Summary(
        labels=summary.Labels(
            submitted=replay.counts.submitted,
            samples=len(tokens),
            seconds=replay.counts.seconds,
            per_second=replay.counts.submitted / replay.counts.seconds if replay.counts.seconds else 0.0,
            rejected=replay.counts.rejected,
            abandoned=replay.counts.abandoned,
            requeued=ledger.timed_out["requeued"],
            escalated=ledger.timed_out["escalated"],
        ),
        agreement=summary.Agreement(
            alpha=report.alpha,
            samples=report.samples_processed,
            low_scores=ledger.events["anvil.agreement.low_score"],
        ),
        emit=summary.Emit(emit.count, emit.percentile_us(0.5), emit.percentile_us(0.99)),
        listeners=listeners,
        events=accounts.total(listeners),
        adds_up=all(one.adds_up for one in listeners),
        statsd=summary.Statsd(
            address=sent.endpoint,
            lines=sent.lines,
            packets=sent.datagrams,
            failed_sends=sent.send_errors,
            problem=sent.flush.last_error or None,
            lines_received=received.lines if received else None,
            packets_received=received.packets if received else None,
            labels_received=int(received.counters.get(LABELS_METRIC, 0)) if received else None,
        ),
        restarts=restarts,
        exports=manifests,
        exports_kept=options.export is not None,
        training=training,
        interrupted=interrupted,
    )


def _live(received: Received) -> str:
    labels = received.counters.get(LABELS_METRIC, 0)
    return f"statsd     {received.lines:,} lines in {received.packets:,} packets so far; {LABELS_METRIC} {labels:,.0f}"


def _finished_after(duration_s: float | None) -> Callable[[], bool]:
    if duration_s is None:
        return lambda: False
    deadline_s = time.monotonic() + duration_s
    return lambda: time.monotonic() >= deadline_s


def _label(replay: Replay, labels: int, screen: Screen) -> bool:
    """Run the replay; tell whether it was interrupted."""
    try:
        with screen.progress(lambda: replay.counts.submitted, labels):
            replay.run()
    except KeyboardInterrupt:
        return True
    return False


def _train(steps: int) -> summary.Training | None:
    losses: list[float] = []

    def on_step(step: int, output: CustomLossOutput) -> None:
        losses.append(output.loss_total)

    if steps:
        train(steps, on_step=on_step)
    return summary.Training(steps, losses[0], losses[-1]) if losses else None


def _tokens(samples: int | None) -> list[lexicon.Token]:
    tokens = lexicon.load(samples)
    if samples is not None and samples > len(tokens):
        raise expected(f"--samples to be 'all' or at most {len(tokens)}, the tokens that there are", samples)
    return tokens


def _writable(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as fault:
        raise UnwritableDirectory(
            f"expected a directory that exports can be written to, got: {str(directory)!r} ({fault.strerror}). "
            "Choose another with --export DIR"
        ) from None
    return directory
