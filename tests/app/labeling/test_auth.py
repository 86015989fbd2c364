import jwt
import pytest

from app.labeling.auth import LEAST_ROLE, ROLES, AccessDenied, Action, Denied, Gate, Identity, Issuer, Role
from runtime.clock import FakeClock
from runtime.errors import InvalidValue, NotFound
from runtime.testing import Capture

KEY = b"k" * 32
ADA = Identity("ada", "t1")


@pytest.fixture
def gate(clock: FakeClock) -> Gate:
    gate = Gate(KEY, "https://id.example.org", clock)
    gate.found("q1", "t1", "owner")
    return gate


@pytest.fixture
def issuer(clock: FakeClock) -> Issuer:
    return Issuer("https://id.example.org", KEY, clock)


def test_a_token_that_the_provider_signed_logs_its_subject_in(gate: Gate, issuer: Issuer, emitted: Capture) -> None:
    assert gate.login(issuer.issue("ada", "t1")) == ADA

    (event,) = emitted.of("anvil.auth.login_success")
    assert event.metadata == {"labeler_id": "ada", "provider": "oidc", "tenant_id": "t1"}


def test_each_login_error_has_its_reason(gate: Gate, issuer: Issuer, clock: FakeClock, emitted: Capture) -> None:
    good = issuer.issue("ada", "t1", ttl_s=60)
    claims = {"sub": "ada", "tenant_id": "t1", "iss": "https://id.example.org", "exp": 9e9}
    unsigned = jwt.encode(claims, key="", algorithm="none")
    no_tenant = jwt.encode({name: claims[name] for name in ("sub", "iss", "exp")}, KEY)
    tenant_of_a_wrong_type = jwt.encode(claims | {"tenant_id": 7}, KEY)

    reasons = [
        gate.login(token)
        for token in (
            "not a token",
            good[:-4] + "AAAA",
            Issuer("https://id.example.org", b"x" * 32, clock).issue("ada", "t1"),
            unsigned,
            tenant_of_a_wrong_type,
            Issuer("https://evil.example.org", KEY, clock).issue("ada", "t1"),
            no_tenant,
        )
    ]
    clock.advance(60)
    reasons.append(gate.login(good))

    assert reasons == [
        *[Denied("invalid_token")] * 5,
        Denied("invalid_issuer"),
        Denied("missing_claims"),
        Denied("expired_token"),
    ]
    assert [event.metadata["reason"] for event in emitted.of("anvil.auth.login_failed")] == [
        *["invalid_token"] * 5,
        "invalid_issuer",
        "missing_claims",
        "expired_token",
    ]
    assert "good" not in repr(emitted.events)


@pytest.mark.parametrize("action", LEAST_ROLE)
def test_each_role_may_do_what_the_roles_below_it_may(gate: Gate, action: Action) -> None:
    allowed = []
    for role in ROLES:
        gate.grant("q1", "ada", role)
        allowed.append(gate.check(ADA, action, "q1") is None)

    least = ROLES.index(LEAST_ROLE[action])
    assert allowed == [False] * least + [True] * (len(ROLES) - least)


def test_each_denial_has_its_reason(gate: Gate, clock: FakeClock, emitted: Capture) -> None:
    reasons = [gate.check(ADA, "submit_label", "q1"), gate.check(Identity("ada", "t2"), "submit_label", "q1")]
    gate.grant("q1", "ada", "labeler", expires_at_ns=clock.system_ns() + 10**9)
    reasons.append(gate.check(ADA, "export_data", "q1"))
    clock.advance(1)
    reasons.append(gate.check(ADA, "submit_label", "q1"))
    gate.revoke("q1", "ada")
    reasons.append(gate.check(ADA, "submit_label", "q1"))

    expected = [
        "not_member",
        "tenant_mismatch",
        "insufficient_permissions",
        "membership_expired",
        "membership_revoked",
    ]
    assert [denied.reason for denied in reasons if denied] == expected
    denials = emitted.of("anvil.auth.access_denied")
    assert [event.metadata["reason"] for event in denials] == expected
    assert denials[0].metadata == {
        "labeler_id": "ada",
        "action": "submit_label",
        "resource_id": "q1",
        "reason": "not_member",
    }


def test_a_stranger_to_the_tenant_learns_nothing_about_membership(gate: Gate) -> None:
    gate.grant("q1", "ada", "admin")

    assert gate.check(Identity("ada", "t2"), "submit_label", "q1") == Denied("tenant_mismatch")


def test_an_allowed_access_is_an_event_too(gate: Gate, emitted: Capture) -> None:
    gate.grant("q1", "ada", "labeler")

    gate.require(ADA, "request_assignment", "q1")

    (event,) = emitted.of("anvil.auth.access_granted")
    assert event.metadata == {"labeler_id": "ada", "action": "request_assignment", "resource_id": "q1"}


def test_require_raises_with_the_reason(gate: Gate) -> None:
    with pytest.raises(
        AccessDenied, match="expected ada to be allowed to export_data in q1, got: not_member"
    ) as denied:
        gate.require(ADA, "export_data", "q1")

    assert denied.value.reason == "not_member"


def test_a_membership_granted_again_after_its_revocation_holds(gate: Gate) -> None:
    gate.grant("q1", "ada", "labeler")
    gate.revoke("q1", "ada")
    gate.grant("q1", "ada", "labeler")

    assert gate.check(ADA, "submit_label", "q1") is None


def test_misuse_of_the_gate_is_refused(gate: Gate, clock: FakeClock) -> None:
    role: Role = "god"  # type: ignore[assignment]
    with pytest.raises(InvalidValue, match="a role out of labeler, auditor, adjudicator, admin, got: 'god'"):
        gate.grant("q1", "ada", role)
    with pytest.raises(NotFound, match="got: 'q9'"):
        gate.grant("q9", "ada", "labeler")
    with pytest.raises(NotFound, match="expected a member of q1, got: 'nobody'"):
        gate.revoke("q1", "nobody")
    with pytest.raises(InvalidValue, match="at least 32 bytes, got: '5 bytes'"):
        Issuer("me", b"short", clock)
