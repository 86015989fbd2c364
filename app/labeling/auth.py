"""Who may do what: logging in with a signed token, roles, memberships of queues.

`Gate` verifies OIDC-style tokens (HS256, with PyJWT) and decides each access by the member's role in that queue. A
refusal is a value, its reason from a fixed list, and an event; the reason says nothing that a stranger could use.
Tokens are never put into events or errors. Safe for use by several threads: memberships are replaced, never changed.
"""

from __future__ import annotations

from typing import Literal

import jwt
import msgspec

import runtime
from runtime.clock import Clock
from runtime.errors import BeamstalkError, NotFound, expected

Role = Literal["labeler", "auditor", "adjudicator", "admin"]
ROLES: tuple[Role, ...] = ("labeler", "auditor", "adjudicator", "admin")
"""From the least to the most: each role may do all that those before it may."""

Action = Literal[
    "request_assignment",
    "submit_label",
    "view_all_labels",
    "compute_agreement",
    "export_data",
    "override_label",
    "resolve_conflict",
    "manage_queue",
    "manage_members",
]
LEAST_ROLE: dict[Action, Role] = {
    "request_assignment": "labeler",
    "submit_label": "labeler",
    "view_all_labels": "auditor",
    "compute_agreement": "auditor",
    "export_data": "auditor",
    "override_label": "adjudicator",
    "resolve_conflict": "adjudicator",
    "manage_queue": "admin",
    "manage_members": "admin",
}

LoginError = Literal["invalid_token", "expired_token", "invalid_issuer", "missing_claims"]
Denial = Literal[
    "not_member", "membership_revoked", "membership_expired", "insufficient_permissions", "tenant_mismatch"
]

_CLAIMS = ("sub", "exp", "iss", "tenant_id")
_ALGORITHM = "HS256"


class Identity(msgspec.Struct, frozen=True):
    """Who somebody has proved to be."""

    labeler_id: str
    tenant_id: str


class Membership(msgspec.Struct, frozen=True):
    """What a labeler may do in one queue, and until when (ns since the epoch; None: no end)."""

    queue_id: str
    labeler_id: str
    role: Role
    expires_at_ns: int | None = None
    revoked_at_ns: int | None = None


class Denied(msgspec.Struct, frozen=True):
    """A refusal: of a login, or of an access."""

    reason: LoginError | Denial


class AccessDenied(BeamstalkError):
    """Refuse an operation; `.reason` is one of the denial reasons."""

    def __init__(self, identity: Identity, action: Action, queue_id: str, reason: LoginError | Denial) -> None:
        super().__init__(f"expected {identity.labeler_id} to be allowed to {action} in {queue_id}, got: {reason}")
        self.reason = reason


class Issuer:
    """An identity provider of our own, for development and for the replay: signs what `Gate` verifies."""

    def __init__(self, name: str, key: bytes, clock: Clock) -> None:
        if len(key) < 32:
            raise expected("a signing key of at least 32 bytes", f"{len(key)} bytes")
        self.name = name
        self._key = key
        self._clock = clock

    def issue(self, labeler_id: str, tenant_id: str, ttl_s: float = 3600) -> str:
        """Sign a token that is good for `ttl_s` seconds."""
        expires_s = self._clock.system_ns() / 1e9 + ttl_s
        claims = {"sub": labeler_id, "tenant_id": tenant_id, "iss": self.name, "exp": expires_s}
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM)


class Gate:
    """The one place that says yes or no.

    `key` and `issuer` are those of the identity provider; `provider` is what events call it.
    """

    def __init__(self, key: bytes, issuer: str, clock: Clock, provider: str = "oidc") -> None:
        self._key = key
        self._issuer = issuer
        self._clock = clock
        self._provider = provider
        self._tenants: dict[str, str] = {}
        self._members: dict[tuple[str, str], Membership] = {}

    def login(self, token: str) -> Identity | Denied:
        """Verify a token. Emits `anvil.auth.login_success` or `anvil.auth.login_failed`."""
        identity = self._verify(token)
        if isinstance(identity, Denied):
            runtime.execute("anvil.auth.login_failed", {}, {"reason": identity.reason, "provider": self._provider})
            return identity
        runtime.execute(
            "anvil.auth.login_success",
            {},
            {"labeler_id": identity.labeler_id, "provider": self._provider, "tenant_id": identity.tenant_id},
        )
        return identity

    def _verify(self, token: str) -> Identity | Denied:
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[_ALGORITHM],
                issuer=self._issuer,
                # Expiry is judged below, by the clock that was handed in.
                options={"require": list(_CLAIMS), "verify_exp": False},
            )
        except jwt.InvalidIssuerError:
            return Denied("invalid_issuer")
        except jwt.MissingRequiredClaimError:
            return Denied("missing_claims")
        except jwt.InvalidTokenError:
            return Denied("invalid_token")
        expires_s = claims["exp"]
        if not isinstance(claims["tenant_id"], str) or not isinstance(expires_s, int | float):
            return Denied("invalid_token")
        if self._clock.system_ns() >= expires_s * 1e9:
            return Denied("expired_token")
        return Identity(claims["sub"], claims["tenant_id"])

    def found(self, queue_id: str, tenant_id: str, owner_id: str) -> None:
        """Tell of a new queue: its tenant, and who administers it from the start."""
        self._tenants[queue_id] = tenant_id
        self.grant(queue_id, owner_id, "admin")

    def grant(self, queue_id: str, labeler_id: str, role: Role, *, expires_at_ns: int | None = None) -> None:
        """Make a labeler a member of a queue, or change what they were."""
        if role not in ROLES:
            raise expected(f"a role out of {', '.join(ROLES)}", role)
        if queue_id not in self._tenants:
            raise NotFound(f"expected a queue that exists, got: {queue_id!r}")
        self._members[queue_id, labeler_id] = Membership(queue_id, labeler_id, role, expires_at_ns)

    def revoke(self, queue_id: str, labeler_id: str) -> None:
        """End a membership now. NotFound if there is none."""
        membership = self._members.get((queue_id, labeler_id))
        if membership is None:
            raise NotFound(f"expected a member of {queue_id}, got: {labeler_id!r}")
        self._members[queue_id, labeler_id] = msgspec.structs.replace(membership, revoked_at_ns=self._clock.system_ns())

    def check(self, identity: Identity, action: Action, queue_id: str) -> Denied | None:
        """Decide one access; None means yes. Emits `anvil.auth.access_granted` or `anvil.auth.access_denied`."""
        reason = self._denial(identity, action, queue_id)
        metadata = {"labeler_id": identity.labeler_id, "action": action, "resource_id": queue_id}
        if reason is None:
            runtime.execute("anvil.auth.access_granted", {}, metadata)
            return None
        runtime.execute("anvil.auth.access_denied", {}, {**metadata, "reason": reason})
        return Denied(reason)

    def require(self, identity: Identity, action: Action, queue_id: str) -> None:
        """Decide one access; AccessDenied means no."""
        denied = self.check(identity, action, queue_id)
        if denied is not None:
            raise AccessDenied(identity, action, queue_id, denied.reason)

    def _denial(self, identity: Identity, action: Action, queue_id: str) -> Denial | None:
        membership = self._members.get((queue_id, identity.labeler_id))
        # The tenant first, so that a stranger learns nothing about the members of somebody else's queue.
        if queue_id in self._tenants and self._tenants[queue_id] != identity.tenant_id:
            return "tenant_mismatch"
        if membership is None:
            return "not_member"
        if membership.revoked_at_ns is not None:
            return "membership_revoked"
        if membership.expires_at_ns is not None and self._clock.system_ns() >= membership.expires_at_ns:
            return "membership_expired"
        if ROLES.index(membership.role) < ROLES.index(LEAST_ROLE[action]):
            return "insufficient_permissions"
        return None
