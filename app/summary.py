"""What a run of the main job came to, as one value: for people as lines, for programs as JSON.

Pure: it is handed everything it says.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from app.accounts import Account
from app.labeling.export import Manifest


class Labels(msgspec.Struct, frozen=True, kw_only=True):
    """What the raters did.

    `submitted` is the raters' own count; `heard` is how many the ledger's handler heard of, and `exported` how many are
    in the files. `sampled`: the ledger hears a share only, by configuration.
    """

    submitted: int
    heard: int
    exported: int
    samples: int
    seconds: float
    per_second: float
    rejected: int
    abandoned: int
    requeued: int
    escalated: int
    sampled: bool = False


class Emit(msgspec.Struct, frozen=True):
    """How long emitting took, in the labelling thread."""

    measured: int
    p50_us: float
    p99_us: float


class Agreement(msgspec.Struct, frozen=True):
    """Krippendorff's alpha by dimension, samples scored, and low scores reported while labelling."""

    alpha: dict[str, float]
    samples: int
    low_scores: int


class Statsd(msgspec.Struct, frozen=True, kw_only=True):
    """What the reporter sent, and what the listener of this process received; None where the server is another."""

    address: str
    lines: int
    packets: int
    failed_sends: int
    problem: str | None
    lines_received: int | None = None
    packets_received: int | None = None
    labels_received: int | None = None


class Forwarded(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a durable reporter's records: delivered, still in its spool, given up, or refused when full."""

    reporter: str
    endpoint: str
    delivered: int
    waiting: int
    dead: int
    refused: int
    problem: str | None


class Training(msgspec.Struct, frozen=True):
    """What the training loop came to; there is none when the labelling was interrupted."""

    steps: int
    first_loss: float
    last_loss: float


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The whole run."""

    labels: Labels
    agreement: Agreement
    emit: Emit
    listeners: list[Account]
    events: Account
    statsd: Statsd
    restarts: int
    exports: list[Manifest]
    exports_kept: bool
    training: Training | None
    interrupted: bool
    forwarded: list[Forwarded] = []

    @property
    def adds_up(self) -> bool:
        """Tell whether every event is accounted for, and every label was heard of and exported."""
        labels = self.labels
        heard_enough = labels.heard <= labels.submitted if labels.sampled else labels.heard == labels.submitted
        return all(one.adds_up for one in self.listeners) and heard_enough and labels.submitted == labels.exported

    def to_json(self) -> str:
        """Return the summary as one JSON object."""
        return msgspec.json.encode(msgspec.structs.asdict(self) | {"adds_up": self.adds_up}).decode()

    def lines(self) -> Iterator[str]:
        """Yield the summary for people."""
        labels, agreement, emit = self.labels, self.agreement, self.emit
        ended = ", interrupted" if self.interrupted and self.training is None else ""
        sampled = " (events are sampled)" if labels.sampled else ""
        yield (
            f"labels     {labels.submitted:,} submitted for {labels.samples:,} samples in {labels.seconds:.1f} s, "
            f"{labels.per_second:,.0f} labels/s{ended}"
        )
        yield (
            f"           {labels.rejected} refused by the draft schema; {labels.abandoned} abandoned, "
            f"{labels.requeued} requeued, {labels.escalated} escalated"
        )
        alphas = ", ".join(f"{value:.3f} for {name}" for name, value in agreement.alpha.items()) or "none yet"
        yield f"agreement  alpha {alphas}; {agreement.low_scores:,} low scores among {agreement.samples:,} samples"
        yield f"emit       p50 {emit.p50_us:.1f} µs, p99 {emit.p99_us:.1f} µs, of {emit.measured:,} measured"
        yield f"events     {self.events.in_words()}"
        for account in self.listeners:
            yield f"           {account.listener}: {account.in_words()}{'; it gave up' if account.gave_up else ''}"
        yield (
            f"sums       {labels.submitted:,} submitted, {labels.heard:,} heard by the ledger{sampled}, "
            f"{labels.exported:,} exported: {'it all adds up' if self.adds_up else 'IT DOES NOT ADD UP'}"
        )
        yield from self._statsd_lines()
        yield from self._forwarded_lines()
        yield f"restarts   {self.restarts}"
        for manifest in self.exports:
            where = manifest.output_path if self.exports_kept else f"as {manifest.format}, not kept (--export DIR does)"
            yield f"export     {manifest.row_count:,} rows, sha256 {manifest.sha256_hash[:12]}…, {where}"
        if self.training is not None:
            training = self.training
            ended = ", interrupted" if self.interrupted else ""
            losses = f"loss {training.first_loss:.4f} to {training.last_loss:.4f}"
            yield f"training   {training.steps:,} steps, {losses}{ended}"

    def _statsd_lines(self) -> Iterator[str]:
        sent = self.statsd
        yield f"statsd     {sent.lines:,} lines in {sent.packets:,} packets to {sent.address}"
        if sent.lines_received is not None:
            yield (
                f"           received {sent.lines_received:,} lines in {sent.packets_received:,} packets, "
                f"{sent.labels_received:,} labels among them"
            )
        if sent.problem is not None:
            yield f"           {sent.failed_sends:,} sends failed: {sent.problem}"

    def _forwarded_lines(self) -> Iterator[str]:
        for one in self.forwarded:
            rest = {"in the spool": one.waiting, "given up": one.dead, "refused": one.refused}
            words = "".join(f", {count:,} {what}" for what, count in rest.items() if count)
            yield f"{one.reporter:<10} {one.delivered:,} records delivered{words}, to {one.endpoint}"
            if one.problem is not None:
                yield f"           {one.problem}"
