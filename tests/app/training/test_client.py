"""The HTTP client against a real server on loopback: retries, their limits, and the events about them."""

from __future__ import annotations

import http.client
import json
import math
import socket
from typing import Any

import msgspec
import pytest
import tenacity

from app.training.client import HttpError, RequestFailed, TrainingClient
from app.training.outputs import BaseLossOutput, CustomLossOutput
from runtime.errors import BeamstalkError, InvalidValue
from tests.app.training.conftest import Captured
from tests.app.training.service import Service, answer, completed, cut_off, hang_up, pending, raw

REQUEST = "tinkex.http.request"
POLL = "/api/v1/retrieve_future"
LIMIT = 4 * 1024 * 1024
NO_JSON = (b"<html>", b"{", b'{"queue_state":"\xff"}', b'{"queue_state":' + b"[" * 100_000)


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def client(service: Service, pauses: list[float]) -> TrainingClient:
    return TrainingClient(service.url, pause=tenacity.wait_fixed(7), sleep=pauses.append)


def test_answered_request_is_a_span_that_says_so(service: Service, client: TrainingClient, captured: Captured) -> None:
    service.answers["/steps"] = [answer(content={"loss": 2.5})]

    assert client.post("/steps?token=secret", {"step": 1}) == {"loss": 2.5}

    start, stop = captured.events
    told = {"method": "POST", "path": "/steps", "pool_type": "default", "base_url": service.url}
    assert start.name == f"{REQUEST}.start"
    assert start.metadata == told | {"telemetry_span_context": start.metadata["telemetry_span_context"]}
    assert stop.name == f"{REQUEST}.stop"
    assert stop.metadata == start.metadata | {"result": "ok", "retry_count": 0}
    ((method, path, headers, body),) = service.requests
    assert (method, path, body) == ("POST", "/steps?token=secret", {"step": 1})
    assert headers["content-type"] == "application/json"


def test_get_sends_no_body(service: Service, client: TrainingClient) -> None:
    service.answers["/steps"] = [answer(content=[])]

    response = client.request("GET", "/steps")

    assert (response.status, response.body, response.is_ok) == (200, b"[]", True)
    ((method, _, headers, body),) = service.requests
    assert (method, body) == ("GET", None)
    assert "content-type" not in headers


def test_base_url_may_have_a_path(service: Service, captured: Captured) -> None:
    service.answers["/v2/steps"] = [answer()]

    TrainingClient(f"{service.url}/v2/").request("GET", "/steps")

    assert captured.one(f"{REQUEST}.stop").metadata["base_url"] == f"{service.url}/v2"


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
def test_answer_that_may_change_is_asked_for_again(
    status: int, service: Service, client: TrainingClient, captured: Captured, pauses: list[float]
) -> None:
    service.answers["/steps"] = [answer(status), answer(status), answer(200)]

    response = client.request("POST", "/steps", {})

    assert (response.status, response.retry_count) == (200, 2)
    assert pauses == [7, 7]
    assert captured.names() == [f"{REQUEST}.start", f"{REQUEST}.stop"]
    assert captured.one(f"{REQUEST}.stop").metadata.items() >= {"result": "ok", "retry_count": 2}.items()
    keys = {headers["idempotency-key"] for _, _, headers, _ in service.requests}
    assert len(service.requests) == 3
    assert len(keys) == 1


def test_retries_end_and_the_last_answer_is_an_error_but_no_exception(
    service: Service, client: TrainingClient, captured: Captured
) -> None:
    service.answers["/steps"] = [answer(503, {"detail": "busy"})]

    with pytest.raises(HttpError, match="expected POST /steps to be answered with 2xx, got: 503") as caught:
        client.post("/steps?token=secret", {})

    assert caught.value.response.retry_count == 3
    assert json.loads(caught.value.response.body) == {"detail": "busy"}
    assert captured.names() == [f"{REQUEST}.start", f"{REQUEST}.stop"]
    assert captured.one(f"{REQUEST}.stop").metadata.items() >= {"result": "error", "retry_count": 3}.items()
    assert len(service.requests) == 4


@pytest.mark.parametrize("status", [301, 400, 401, 404, 501])
def test_answer_that_will_not_change_is_not_asked_for_again(
    status: int, service: Service, client: TrainingClient, captured: Captured, pauses: list[float]
) -> None:
    service.answers["/steps"] = [answer(status, Location="/elsewhere")]

    assert client.request("GET", "/steps").status == status

    assert pauses == []
    assert len(service.requests) == 1
    assert captured.one(f"{REQUEST}.stop").metadata.items() >= {"result": "error", "retry_count": 0}.items()


@pytest.mark.parametrize(
    ("header", "pause"),
    [
        ("3", 3.0),
        ("3600", 60.0),
        ("soon", 7.0),
        ("-1", 7.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Sat, 06 Nov 2094 08:49:37 GMT", 60.0),
        ("Sat, 06 Nov 99999999999 08:49:37 GMT", 7.0),
    ],
)
def test_pause_that_the_service_asks_for_is_made(
    header: str, pause: float, service: Service, client: TrainingClient, pauses: list[float]
) -> None:
    service.answers["/steps"] = [answer(429, Retry_After=header), answer()]

    client.request("GET", "/steps")

    assert pauses == [pause]


def test_lost_connection_is_retried(service: Service, client: TrainingClient, captured: Captured) -> None:
    service.answers["/steps"] = [hang_up, hang_up, answer()]

    assert client.request("GET", "/steps").retry_count == 2

    assert captured.one(f"{REQUEST}.stop").metadata["result"] == "ok"


def test_no_answer_at_all_is_an_exception(service: Service, client: TrainingClient, captured: Captured) -> None:
    service.answers["/steps"] = [hang_up]

    with pytest.raises(http.client.RemoteDisconnected) as caught:
        client.request("GET", "/steps")

    assert captured.names() == [f"{REQUEST}.start", f"{REQUEST}.exception"]
    failed = captured.one(f"{REQUEST}.exception").metadata
    assert failed["reason"] is caught.value
    assert (failed["kind"], failed["retry_count"]) == ("error", 3)
    assert "result" not in failed


def test_nobody_listening_is_an_exception(captured: Captured) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = TrainingClient(f"http://127.0.0.1:{port}", max_retries=0)

    with pytest.raises(ConnectionRefusedError):
        client.request("GET", "/steps")

    assert captured.one(f"{REQUEST}.exception").metadata["retry_count"] == 0


def test_interrupted_pause_closes_the_span(service: Service, captured: Captured) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    service.answers["/steps"] = [answer(503)]

    with pytest.raises(KeyboardInterrupt):
        TrainingClient(service.url, sleep=interrupted).request("GET", "/steps")

    assert captured.one(f"{REQUEST}.exception").metadata["kind"] == "exit"
    assert captured.is_balanced()


@pytest.mark.parametrize(
    "too_long",
    [
        answer(content=bytes(LIMIT + 1)),
        raw(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(LIMIT + 1)),
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n" + bytes(LIMIT + 1)),
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n" + bytes(LIMIT + 1)),
    ],
    ids=["length", "no length", "chunk", "chunk of a negative size"],
)
def test_answer_larger_than_four_megabytes_is_refused_without_a_retry(
    too_long: Any, service: Service, client: TrainingClient, captured: Captured
) -> None:
    service.answers["/steps"] = [too_long]

    with pytest.raises(BeamstalkError, match="expected GET /steps to be answered with at most 4194304 bytes"):
        client.request("GET", "/steps?token=secret")

    failed = captured.one(f"{REQUEST}.exception").metadata
    assert failed["retry_count"] == 0
    assert "secret" not in str(failed["reason"])


def test_answer_of_four_megabytes_is_read(service: Service, client: TrainingClient) -> None:
    service.answers["/steps"] = [answer(content=bytes(LIMIT))]

    assert len(client.request("GET", "/steps").body) == LIMIT


def test_answer_in_chunks_is_put_together(service: Service, client: TrainingClient) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    service.answers["/steps"] = [raw(head + b"2\r\n[1\r\n"), raw(head + b"2\r\n[1\r\n3\r\n,2]\r\n0\r\n\r\n")]

    response = client.request("GET", "/steps")

    assert (response.body, response.retry_count) == (b"[1,2]", 1)


def test_service_that_hangs_is_an_exception_once_the_retries_are_over(captured: Captured) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = TrainingClient(
            f"http://127.0.0.1:{silent.getsockname()[1]}", max_retries=1, timeout_s=0.05, sleep=lambda seconds: None
        )

        with pytest.raises(TimeoutError):
            client.request("GET", "/steps")

    assert captured.one(f"{REQUEST}.exception").metadata["retry_count"] == 1
    assert captured.is_balanced()


def test_answer_that_ends_too_early_is_asked_for_again(service: Service, client: TrainingClient) -> None:
    service.answers["/steps"] = [cut_off(b"abc"), cut_off(b""), answer(content=1)]

    response = client.request("GET", "/steps")

    assert (response.body, response.retry_count) == (b"1", 2)


def test_empty_answer_is_none(service: Service, client: TrainingClient) -> None:
    service.answers["/steps"] = [answer(204, b"")]

    assert client.post("/steps", {}) is None


@pytest.mark.parametrize("content", NO_JSON)
def test_answer_that_is_no_json_is_an_error(content: bytes, service: Service, client: TrainingClient) -> None:
    service.answers["/steps"] = [answer(content=content)]

    with pytest.raises(msgspec.DecodeError):
        client.post("/steps", {})


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize("body", [math.nan, {"loss": math.inf}, object(), {"a": {1, object()}}, ENDLESS])
def test_body_that_has_no_json_is_refused_without_an_event(body: object, captured: Captured) -> None:
    with pytest.raises(InvalidValue, match="expected body to have JSON, got: "):
        TrainingClient("http://example.org").post("/steps", body)

    assert captured.names() == []


def test_structure_is_sent_as_its_json(service: Service, client: TrainingClient) -> None:
    service.answers["/steps"] = [answer()]
    output = CustomLossOutput.compose(BaseLossOutput(value=1.0, custom={"ä": 2**80}))

    client.request("POST", "/steps", output)

    ((_, _, _, body),) = service.requests
    assert body == json.loads(output.to_json())


@pytest.mark.parametrize("method", ["", "get", "GET\r\nHost: evil", "Ä", None])
def test_method_that_is_none_is_refused_without_an_event(method: Any, captured: Captured) -> None:
    with pytest.raises(InvalidValue, match="expected method to be in capital letters, got: "):
        TrainingClient("http://example.org").request(method, "/steps")

    assert captured.names() == []


# -- the queue --


@pytest.fixture
def queued(service: Service) -> Service:
    service.answers["/forward"] = [answer(content={"request_id": "r1"})]
    return service


def test_queue_state_is_told_only_when_it_changes(queued: Service, client: TrainingClient, captured: Captured) -> None:
    queued.answers[POLL] = [
        pending("active"),
        pending("active"),
        pending(),
        pending("paused_rate_limit", "tokens"),
        pending("paused_rate_limit", "tokens"),
        pending("paused_rate_limit", "requests"),
        pending("paused_capacity"),
        pending("paused_for_lunch"),
        pending("paused_at_sea"),
        pending("active"),
        completed({"loss": 1.0}),
    ]

    assert client.run("/forward", {"batch": 1}) == {"loss": 1.0}

    changes = captured.of("tinkex.queue.state_change")
    assert [(event.metadata["queue_state"], event.metadata["reason"]) for event in changes] == [
        ("active", None),
        ("paused_rate_limit", "tokens"),
        ("paused_rate_limit", "requests"),
        ("paused_capacity", None),
        ("unknown", None),
        ("active", None),
    ]
    assert {event.metadata["request_id"] for event in changes} == {"r1"}
    assert [body for _, path, _, body in queued.requests if path == POLL] == [{"request_id": "r1"}] * 11
    assert captured.is_balanced()


def test_answer_that_is_asked_for_again_may_tell_of_the_queue(
    queued: Service, client: TrainingClient, captured: Captured
) -> None:
    full = {"queue_state": "paused_capacity", "queue_state_reason": "full"}
    limited = {"queue_state": "paused_rate_limit", "queue_state_reason": "tokens"}
    queued.answers[POLL] = [
        answer(408, full),
        answer(408, full),
        pending(),
        answer(429, limited),
        answer(429),
        pending(),
        pending("active"),
        answer(429),
        answer(429),
        answer(503, b"<html>"),
        completed(1),
    ]

    assert client.run("/forward", {}) == 1

    changes = captured.of("tinkex.queue.state_change")
    assert [(event.metadata["queue_state"], event.metadata["reason"]) for event in changes] == [
        ("paused_capacity", "full"),
        ("paused_rate_limit", "tokens"),
        ("active", None),
        ("paused_rate_limit", None),
    ]
    assert captured.is_balanced()


def test_two_requests_watch_the_queue_each_on_its_own(
    queued: Service, client: TrainingClient, captured: Captured
) -> None:
    queued.answers["/forward"] = [answer(content={"request_id": name}) for name in ("r1", "r2")]
    queued.answers[POLL] = [pending("active"), completed(1), pending("active"), completed(2)]

    assert [client.run("/forward", {}), client.run("/forward", {})] == [1, 2]

    changes = captured.of("tinkex.queue.state_change")
    assert [event.metadata["request_id"] for event in changes] == ["r1", "r2"]


def test_pause_between_polls_is_what_the_service_asks_for(
    queued: Service, client: TrainingClient, pauses: list[float]
) -> None:
    queued.answers[POLL] = [pending(retry_after_ms=250), pending(retry_after_ms=0.5), pending(), completed(None)]

    client.run("/forward", {})

    assert pauses == [0.25, 0.0005, 7]


def test_no_pause_is_longer_than_what_is_left(queued: Service, client: TrainingClient, pauses: list[float]) -> None:
    queued.answers[POLL] = [pending(retry_after_ms=60_000), completed(None)]

    client.run("/forward", {}, timeout_s=50.0)

    assert len(pauses) == 1
    assert pauses[0] <= 50.0


def test_poll_that_fails_for_a_moment_is_retried(queued: Service, client: TrainingClient, captured: Captured) -> None:
    queued.answers[POLL] = [answer(503), hang_up, completed("done")]

    assert client.run("/forward", {}) == "done"

    assert captured.one(f"{REQUEST}.stop", path=POLL).metadata["retry_count"] == 2


@pytest.mark.parametrize("content", NO_JSON)
def test_poll_whose_answer_is_no_json_is_retried_by_its_status(
    content: bytes, queued: Service, client: TrainingClient, captured: Captured
) -> None:
    queued.answers[POLL] = [answer(503, content), completed("done")]

    assert client.run("/forward", {}) == "done"

    assert captured.of("tinkex.queue.state_change") == []


def test_reason_of_failed_work_is_shown_in_short(queued: Service, client: TrainingClient) -> None:
    queued.answers[POLL] = [answer(content={"status": "failed", "error": "e" * 100_000})]

    with pytest.raises(RequestFailed) as caught:
        client.run("/forward", {})

    assert len(str(caught.value)) < 1000
    assert caught.value.error == "e" * 100_000


def test_failed_work_is_an_error_with_its_reason(queued: Service, client: TrainingClient) -> None:
    queued.answers[POLL] = [answer(content={"status": "failed", "error": {"message": "out of memory"}})]

    with pytest.raises(RequestFailed, match=r"expected request 'r1' to succeed, got: .*out of memory") as caught:
        client.run("/forward", {})

    assert (caught.value.request_id, caught.value.error) == ("r1", {"message": "out of memory"})


def test_waiting_for_work_has_an_end(queued: Service, client: TrainingClient) -> None:
    queued.answers[POLL] = [pending("active")]

    with pytest.raises(TimeoutError, match="expected request 'r1' to be over within 0 s, got: still pending"):
        client.run("/forward", {}, timeout_s=0)


@pytest.mark.parametrize("timeout_s", [-1, math.nan, math.inf, 1e10, None, "1", True])
def test_time_to_wait_for_work_must_be_a_number_of_seconds(timeout_s: Any, captured: Captured) -> None:
    with pytest.raises(InvalidValue, match="expected timeout_s to be a number of seconds, at most [0-9]+, got: "):
        TrainingClient("http://example.org").run("/forward", {}, timeout_s)

    assert captured.names() == []


def test_receipt_that_makes_no_sense_is_refused(service: Service, client: TrainingClient) -> None:
    service.answers["/forward"] = [answer(content={"id": 1})]

    with pytest.raises(msgspec.ValidationError, match="request_id"):
        client.run("/forward", {})


@pytest.mark.parametrize("content", [{"status": "lost"}, [], {"status": "pending", "queue_state": 7}])
def test_answer_that_makes_no_sense_is_refused(content: object, queued: Service, client: TrainingClient) -> None:
    queued.answers[POLL] = [answer(content=content)]

    with pytest.raises(msgspec.ValidationError):
        client.run("/forward", {})


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "ftp://example.org",
        "http://",
        "http://example.org?x=1",
        "http://example.org#x",
        "http://[",
        "http://h:99999",
        "http://h:0",
        "http://exa mple.org",
        "http://h/a b",
        "http://h\r\n/x",
        "http://h/ä",
        " http://h",
        "http://h\\x",
        "http://h..x",
        "http://" + "h" * 64,
        None,
        b"http://h",
    ],
)
def test_url_that_is_none_is_refused(url: Any) -> None:
    with pytest.raises(InvalidValue, match=r"expected base_url to be http\(s\)://host\[:port\], got: "):
        TrainingClient(url)


def test_url_with_credentials_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidValue) as caught:
        TrainingClient("http://user:hunter2@example.org")

    assert "hunter2" not in str(caught.value)


def test_pool_type_must_be_a_string() -> None:
    with pytest.raises(InvalidValue, match="expected pool_type to be a string, got: None"):
        TrainingClient("http://example.org", pool_type=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("max_retries", [-1, 1.5, None, True])
def test_max_retries_must_be_a_whole_number(max_retries: Any) -> None:
    with pytest.raises(InvalidValue, match="expected max_retries to be a whole number >= 0"):
        TrainingClient("http://example.org", max_retries=max_retries)


@pytest.mark.parametrize("timeout_s", [0, -1, math.nan, 1e10, None])
def test_timeout_of_an_attempt_must_be_a_positive_number_of_seconds(timeout_s: Any) -> None:
    with pytest.raises(InvalidValue, match="expected timeout_s to be "):
        TrainingClient("http://example.org", timeout_s=timeout_s)


@pytest.mark.parametrize("path", ["", "steps", "/a b", "/a\r\nHost: evil", "/ä", None])
def test_path_that_is_none_is_refused_without_an_event(path: Any, captured: Captured) -> None:
    with pytest.raises(InvalidValue, match="expected path to begin with / and hold printable ASCII without spaces"):
        TrainingClient("http://example.org").request("GET", path)

    assert captured.names() == []
