"""The main job: ten raters label the lexicon, as they really did, through the whole platform.

Each token is a sample, each of the ten rating columns a labeler, each rating a label. An event comes out of this only
because its work was done. The raters' habits have real consequences, too:

- The draft schema allows -3…3, because nobody expected extremes. The first rating beyond is refused; the owner migrates
  the queue to a schema of -4…4, and the rater submits again.
- Now and then (`abandon`) a rater starts an assignment and walks away. Its deadline passes, a sweep requeues it, and
  the rater finishes it at the second attempt.

Works in the caller's thread, as a service does, and knows of nobody who listens.
"""

from __future__ import annotations

import math
import random
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

import runtime
from app.labeling import lexicon, policies
from app.labeling.assignments import Assignment, InvalidTransition
from app.labeling.auth import Denied, Gate, Identity, Issuer
from app.labeling.export import FORMATS, Manifest
from app.labeling.labels import Rejected
from app.labeling.lexicon import Token
from app.labeling.queues import Emit, Queue, Refused
from app.labeling.records import QueueSettings, Sample
from app.labeling.schema import Field, Schema
from app.labeling.scoring import Report
from app.labeling.service import Platform
from app.labeling.storage import Storage
from runtime.clock import Clock
from runtime.errors import BeamstalkError, NotFound

QUEUE_ID = "vader-lexicon"
DIMENSION = "valence"
TIMEOUT_S = 1.0
"""Time to submit. Short, so that a run sees its timeouts; who has not walked away takes a millisecond."""

_TENANT = "cscw"
_DRAFT = Schema("v1", (Field(name=DIMENSION, type="range", min=-3, max=3),))
_FINAL = Schema("v2", (Field(name=DIMENSION, type="range", min=-4, max=4),))
_SAMPLES_AT_A_TIME = 100
_NAP_S = 0.05


def open_platform(storage: Storage, emit: Emit = runtime.execute) -> tuple[Platform, Issuer]:
    """Make a platform on a storage, and the identity provider that its gate trusts."""
    key = secrets.token_bytes(32)
    clock = Clock()
    issuer = Issuer("https://id.anvil.example", key, clock)
    return Platform(storage, Gate(key, issuer.name, clock), clock=clock, emit=emit), issuer


class Counts(msgspec.Struct):
    """What the raters did; changes while the replay runs. `seconds` is how long they had work to do."""

    samples: int = 0
    submitted: int = 0
    seconds: float = 0.0
    rejected: int = 0
    abandoned: int = 0
    too_late: int = 0


class Replay:
    """One run over some tokens. Making it creates the queue and logs everybody in.

    `rate` is labels per second, None for as fast as it goes; `abandon` the share of assignments that are started and
    left. The run is over when all is labelled, or when `end` has come.
    """

    def __init__(
        self,
        platform: Platform,
        issuer: Issuer,
        tokens: Sequence[Token],
        *,
        rate: float | None = None,
        abandon: float = 0.0,
        end: End | None = None,
    ) -> None:
        self.counts = Counts()
        self._tokens = {_sample_id(token): token for token in tokens}
        self._platform = platform
        self._issuer = issuer
        self.end = end or End()
        self._pace = Pace(rate, self.end.sleep)
        self._abandon = abandon
        self._chance = random.Random(0)
        self._waited_s = 0.0
        self._owner = self._login("owner")
        self._raters = [self._login(f"rater-{number:02}") for number in range(1, lexicon.RATERS + 1)]
        self.queue = self._open_queue()

    def run(self) -> None:
        """Label everything, or until the end has come. Blocks."""
        started_s = time.monotonic()
        self.end.begin()
        try:
            self._label_all()
        finally:
            self.counts.seconds = time.monotonic() - started_s - self._waited_s

    def _label_all(self) -> None:
        samples = [Sample(sample_id, token.text) for sample_id, token in self._tokens.items()]
        for start in range(0, len(samples), _SAMPLES_AT_A_TIME):
            if self.end.has_come():
                return
            batch = samples[start : start + _SAMPLES_AT_A_TIME]
            self.queue.add_samples(batch)
            self.counts.samples += len(batch)
            while self._round():
                pass
        while self.queue.unfinished_count() and not self.end.has_come():
            # All that is left was walked away from, and comes back when the sweep has been.
            if not self._round():
                self.end.sleep(_NAP_S)
                self._waited_s += _NAP_S

    def conclude(self, directory: Path) -> tuple[Report, list[Manifest]]:
        """Compute the agreement, write an export in each format, and archive the queue."""
        report = self._platform.agreement(self._owner, QUEUE_ID)
        manifests = [
            self._platform.export(
                self._owner, QUEUE_ID, directory / f"labels.{format}", format, sample_version=lexicon.version()
            )
            for format in FORMATS
        ]
        self._platform.change_status(self._owner, QUEUE_ID, "archived")
        return report, manifests

    def _open_queue(self) -> Queue:
        policy = policies.build("redundancy")
        settings = QueueSettings(
            queue_id=QUEUE_ID,
            tenant_id=_TENANT,
            policy_type=policy.type,
            labels_per_sample=lexicon.RATERS,
            assignment_timeout_s=TIMEOUT_S,
        )
        queue = self._platform.create_queue(self._owner, settings, _DRAFT, policy)
        for rater in self._raters:
            self._platform.enroll(self._owner, QUEUE_ID, rater.labeler_id)
        self._try_the_gate()
        return queue

    def _try_the_gate(self) -> None:
        """Before anybody works: a forged token and an export by a labeler have to be refused."""
        forger = Issuer(self._issuer.name, secrets.token_bytes(32), Clock())
        forged = self._platform.gate.login(forger.issue("owner", _TENANT))
        denied = self._platform.gate.check(self._raters[0], "export_data", QUEUE_ID)
        if (forged, denied) != (Denied("invalid_token"), Denied("insufficient_permissions")):
            raise BeamstalkError(
                f"expected the gate to refuse a forger and a labeler's export, got: {forged}, {denied}"
            )

    def _login(self, labeler_id: str) -> Identity:
        identity = self._platform.gate.login(self._issuer.issue(labeler_id, _TENANT))
        if isinstance(identity, Denied):
            raise BeamstalkError(f"expected {labeler_id} to be logged in, got: {identity.reason}")
        return identity

    def _round(self) -> bool:
        """Let each rater do one assignment; tell whether anybody got one."""
        got_work = False
        for column, rater in enumerate(self._raters):
            self._pace.wait()  # before there is a deadline to keep
            if self.end.has_come():
                return False
            assignment = self._platform.request_assignment(rater, QUEUE_ID)
            if not isinstance(assignment, Refused):
                got_work = True
                self._work(rater, column, assignment)
        return got_work

    def _work(self, rater: Identity, column: int, assignment: Assignment) -> None:
        if assignment.attempts == 1 and self._chance.random() < self._abandon:
            self.counts.abandoned += 1
            return
        values = {DIMENSION: self._tokens[assignment.sample_id].ratings[column]}
        try:
            outcome = self._platform.submit(rater, QUEUE_ID, assignment.id, values)
            if isinstance(outcome, Rejected):
                self.counts.rejected += 1
                self._platform.migrate_schema(self._owner, QUEUE_ID, _FINAL)
                outcome = self._platform.submit(rater, QUEUE_ID, assignment.id, values)
        except (InvalidTransition, NotFound):
            # The machine stood still for longer than the deadline; the sweep brings the assignment back.
            self.counts.too_late += 1
            return
        if isinstance(outcome, Rejected):
            raise BeamstalkError(f"expected a rating from -4 to 4 for {assignment.sample_id}, got: {values}")
        self.counts.submitted += 1
        self._pace.advance()


class End:
    """When a run has to end: `duration_s` seconds (None: never) after it began, or once it is told to.

    It begins with the object, and anew with `begin`. Any thread may tell.

    >>> end = End()
    >>> end.has_come()
    False
    >>> end.tell()
    >>> end.has_come()
    True
    """

    def __init__(self, duration_s: float | None = None) -> None:
        self._told = threading.Event()
        self._duration_s = math.inf if duration_s is None else duration_s
        self.begin()

    def begin(self) -> None:
        """Count the duration from now on."""
        self._deadline_s = time.monotonic() + self._duration_s

    def tell(self) -> None:
        """Let the end come now."""
        self._told.set()

    def has_come(self) -> bool:
        """Tell whether it is over."""
        return self._told.is_set() or time.monotonic() >= self._deadline_s

    def sleep(self, seconds: float) -> None:
        """Sleep, but not beyond the end."""
        self._told.wait(max(0.0, min(seconds, self._deadline_s - time.monotonic())))


class Pace:
    """Keeps a steady rate (per second; None: no waiting), and catches up with at most a tenth of a second.

    >>> pace = Pace(None, time.sleep)
    >>> pace.wait(), pace.advance()
    (None, None)
    """

    def __init__(
        self, rate: float | None, sleep: Callable[[float], object], now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval_s = 0.0 if rate is None else 1 / rate
        self._sleep = sleep
        self._now_s = now_s
        self._due_s = now_s()

    def wait(self) -> None:
        """Sleep until the next label is due."""
        ahead_s = self._due_s - self._now_s()
        if (
            self._interval_s and ahead_s > 0.001
        ):  # shorter sleeps are not worth their overhead; the next makes up for it
            self._sleep(ahead_s)

    def advance(self) -> None:
        """Note that a label is done."""
        self._due_s = max(self._due_s + self._interval_s, self._now_s() - 0.1)


def _sample_id(token: Token) -> str:
    return f"token-{token.line:04}"
