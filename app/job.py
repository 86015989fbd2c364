"""One run of the main job, from the empty platform to the summary.

Owns the order of things: everything that listens is attached before the application starts, the replay works in a
thread of its own, the application is stopped (which drains and flushes) before anything is counted, and the storage and
the listener end last. Whatever happens, what was started is stopped.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import runtime
from actors import whereis
from actors.aggregator import NAME as AGGREGATOR
from actors.validator import NAME as VALIDATOR
from app import accounts, chaos, summary
from app.application import Anvil
from app.config import Config, load
from app.labeling import lexicon
from app.labeling.export import Manifest
from app.labeling.storage import Storage
from app.latency import TimedEmit
from app.ledger import EVENTS as LEDGER_EVENTS
from app.ledger import Ledger
from app.listener import Received, StatsdListener
from app.options import Options
from app.replay import End, Replay, open_platform
from app.screen import Screen
from app.training.loop import train_until_interrupted
from app.training.outputs import CustomLossOutput
from reporters import StatsdStatistics
from reporters.aitrace import AITrace
from reporters.foundation import Foundation
from runtime.errors import BeamstalkError, InvalidValue, expected

LABELS_METRIC = "anvil.label.submit.count"


class UnwritableDirectory(BeamstalkError):
    """Say that exports could not be written where they are wanted, before a run is spent on them."""


def run(options: Options, screen: Screen) -> summary.Summary:
    """Do the whole job; blocks until the summary is there.

    A KeyboardInterrupt while labelling or training ends that and nothing else; a later one ends the run.
    Raises InvalidValue (a bad configuration, more samples than there are), DatasetMissing, UnwritableDirectory,
    MissingExtra, StartError, sqlite3.Error.
    """
    config = load(options.config)
    tokens = _tokens(options.samples)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="anvil-")))
        directory = _writable(options.export or work / "exports")
        listener, address = None, options.statsd or config.statsd.address
        labels_metric = f"{config.statsd.prefix}.{LABELS_METRIC}".removeprefix(".")
        if address is None:
            listener = stack.enter_context(StatsdListener(lambda received: screen.line(_live(received, labels_metric))))
            address = listener.address
        storage = Storage(work / "labels.db")
        stack.callback(storage.close)
        emit = TimedEmit()
        platform, issuer = open_platform(storage, emit)
        ledger = Ledger()
        stack.enter_context(ledger.attached())
        if options.chaos:
            stack.enter_context(chaos.attached())
        end = End(options.duration_s)
        try:
            application = Anvil(platform, address, config, on_exit=lambda reason: end.tell())
        except InvalidValue as mistake:
            raise InvalidValue(f"{options.config}: {mistake}") from None
        application.start()
        stack.callback(application.stop)

        if application.reporters.prometheus is not None:
            screen.line(f"prometheus {application.reporters.prometheus.statistics().endpoint}")
        replay = Replay(platform, issuer, tokens, rate=options.rate, abandon=options.abandon, end=end)
        with screen.progress(lambda: replay.counts.submitted, len(tokens) * lexicon.RATERS):
            interrupted = _label(replay, end)
        if not application.is_running:
            raise BeamstalkError("expected the application to run to the end, got: its tree gave up. See --log FILE")
        report, manifests = replay.conclude(directory)
        training = None if interrupted else _train(options.train, screen)

        restarts = accounts.restarts(application.supervisor)
        gave_up = {info.id for info in runtime.list_handlers() if info.state == "gave_up"}
        names = (AGGREGATOR, VALIDATOR, *(one.name for one in application.reporters.durable))
        actors = [actor for name in names if (actor := whereis(name)) is not None]
        application.stop_measuring()
        validator = whereis(VALIDATOR)
        if validator is not None:
            accounts.settle(validator)
        application.stop()
        listeners = accounts.accounts(actors, gave_up)
    # Out here the listener has taken in everything that was sent.
    received = None if listener is None else listener.received()
    return summary.Summary(
        labels=_labels(replay, ledger, manifests, is_sampled=_is_sampled(config)),
        agreement=summary.Agreement(
            report.alpha, report.samples_processed, low_scores=ledger.events["anvil.agreement.low_score"]
        ),
        emit=summary.Emit(emit.count, emit.percentile_us(0.5), emit.percentile_us(0.99)),
        listeners=listeners,
        events=accounts.total(listeners),
        statsd=_statsd(application.statsd.statistics(), received, labels_metric),
        forwarded=[_forwarded(one) for one in application.reporters.durable],
        restarts=restarts,
        exports=manifests,
        exports_kept=options.export is not None,
        training=training,
        interrupted=interrupted or (training is not None and training.steps < options.train),
    )


def _labels(replay: Replay, ledger: Ledger, manifests: list[Manifest], *, is_sampled: bool) -> summary.Labels:
    counts = replay.counts
    return summary.Labels(
        submitted=counts.submitted,
        heard=ledger.events["anvil.assignment.completed"],
        exported=min(manifest.row_count for manifest in manifests),
        samples=counts.samples,
        seconds=counts.seconds,
        per_second=counts.submitted / counts.seconds if counts.seconds else 0.0,
        rejected=counts.rejected,
        abandoned=counts.abandoned,
        requeued=ledger.timed_out["requeued"],
        escalated=ledger.timed_out["escalated"],
        sampled=is_sampled,
    )


def _is_sampled(config: Config) -> bool:
    return any(config.telemetry.sampling.get(name, 1) < 1 for name in LEDGER_EVENTS)


def _forwarded(reporter: Foundation | AITrace) -> summary.Forwarded:
    found = reporter.statistics()
    spool = found.outbox.spool
    classes = [] if spool is None else list(spool.classes.values())
    troubles = [courier.circuit.reason for courier in found.outbox.couriers.values() if courier.circuit.failures]
    troubles += (
        [spool.reason] if spool is not None and spool.reason else [why for one in classes for why in one.refused]
    )
    return summary.Forwarded(
        reporter=found.name,
        endpoint=reporter.endpoint,
        delivered=sum(one.delivered for one in classes),
        waiting=sum(one.stored + one.backlog for one in classes),
        dead=sum(sum(one.dead_lettered.values()) for one in classes),
        refused=sum(sum(one.refused.values()) for one in classes),
        problem="; ".join(dict.fromkeys(filter(None, troubles))) or None,
    )


def _statsd(sent: StatsdStatistics, received: Received | None, labels_metric: str) -> summary.Statsd:
    return summary.Statsd(
        address=sent.endpoint,
        lines=sent.lines,
        packets=sent.datagrams,
        failed_sends=sent.send_errors,
        problem=sent.flush.last_error or None,
        lines_received=None if received is None else received.lines,
        packets_received=None if received is None else received.packets,
        labels_received=None if received is None else round(_labels_in(received, labels_metric)),
    )


def _live(received: Received, labels_metric: str) -> str:
    labels = _labels_in(received, labels_metric)
    return f"statsd     {received.lines:,} lines in {received.packets:,} packets so far; {labels_metric} {labels:,.0f}"


def _labels_in(received: Received, labels_metric: str) -> float:
    # Lines without tags have them in the name.
    names = (labels_metric, f"{labels_metric}.")
    return sum(count for name, count in received.counters.items() if name == names[0] or name.startswith(names[1]))


def _label(replay: Replay, end: End) -> bool:
    """Run the replay in a thread, and tell whether it was interrupted.

    A KeyboardInterrupt can hit the main thread between any two steps. Here it hits nothing but the waiting, so that the
    label in hand is finished and every count stays exact.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        running = pool.submit(replay.run)
        try:
            running.result()
        except KeyboardInterrupt:
            end.tell()
            running.result()
            return True
    return False


def _train(steps: int, screen: Screen) -> summary.Training | None:
    losses: list[float] = []

    def on_step(step: int, output: CustomLossOutput) -> None:
        losses.append(output.loss_total)

    if not steps:
        return None
    with screen.progress(lambda: len(losses), steps, "training steps"):
        train_until_interrupted(steps, on_step=on_step)
    return summary.Training(len(losses), losses[0], losses[-1])


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
