"""What the transport makes of a real endpoint, good or bad."""

from __future__ import annotations

import gzip
import ssl
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest

from reporters.delivery import RESPONSE_LIMIT, HttpTransport, Secret, Verdict
from runtime.clock import FakeClock
from runtime.errors import InvalidValue
from tests.reporters.delivery.endpoint import (
    Behaviour,
    answer,
    closed_port,
    drip,
    endpoint,
    raw,
    reset,
    silence,
)

BODY = b'{"events": []}'


def test_a_body_arrives_packed_with_its_key_and_headers() -> None:
    with endpoint() as there:
        transport = HttpTransport(there.url + "?site=1", headers={"Authorization": "Bearer 0123"})

        got = transport.send(BODY, "batch-1")

    request = there.requests[0]
    assert got.verdict is Verdict.DELIVERED
    assert request.line == "POST /ingest?site=1 HTTP/1.1"
    assert gzip.decompress(request.body) == BODY
    headers = request.headers
    assert (headers["authorization"], headers["idempotency-key"]) == ("Bearer 0123", "batch-1")
    assert (headers["content-type"], headers["content-encoding"]) == ("application/json", "gzip")
    assert headers["host"] == f"127.0.0.1:{there.port}"


@pytest.mark.parametrize(
    ("behaviour", "verdict", "status"),
    [
        (answer(200), Verdict.DELIVERED, 200),
        (answer(204), Verdict.DELIVERED, 204),
        (answer(301, b"", "Location: http://elsewhere.example/"), Verdict.REJECTED, 301),
        (answer(400), Verdict.REJECTED, 400),
        (answer(401), Verdict.REJECTED, 401),
        (answer(404), Verdict.REJECTED, 404),
        (answer(408), Verdict.RETRY, 408),
        (answer(413), Verdict.SPLIT, 413),
        (answer(425), Verdict.RETRY, 425),
        (answer(429), Verdict.RETRY, 429),
        (answer(500), Verdict.RETRY, 500),
        (answer(502), Verdict.RETRY, 502),
        (answer(503), Verdict.RETRY, 503),
        (answer(504), Verdict.RETRY, 504),
        (reset, Verdict.RETRY, None),
        (raw(b""), Verdict.RETRY, None),
        (raw(b"SSH-2.0-OpenSSH\r\n\r\n"), Verdict.RETRY, None),
        (raw(b"HTTP/1.1 200"), Verdict.DELIVERED, 200),
        (raw(b"HTTP/1.1 2x0 OK\r\n\r\n"), Verdict.RETRY, None),
        (raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"), Verdict.RETRY, None),
        (raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"), Verdict.RETRY, None),
    ],
)
def test_every_answer_and_non_answer_is_decided(behaviour: Behaviour, verdict: Verdict, status: int | None) -> None:
    with endpoint(behaviour) as there:
        got = HttpTransport(there.url).send(BODY, "batch")

    assert (got.verdict, got.status) == (verdict, status)
    assert got.reason


def test_a_refused_connection_is_tried_again() -> None:
    with closed_port() as port:
        got = HttpTransport(f"http://127.0.0.1:{port}/").send(BODY, "batch")

    assert got.verdict is Verdict.RETRY
    assert got.reason.startswith("ConnectionRefusedError")


def test_a_name_that_does_not_resolve_is_tried_again() -> None:
    got = HttpTransport("http://nowhere.invalid/").send(BODY, "batch")

    assert got.verdict is Verdict.RETRY
    assert got.reason.startswith("gaierror")


@pytest.mark.parametrize("behaviour", [silence, drip])
def test_one_deadline_holds_for_the_whole_exchange_however_slowly_it_drips(behaviour: Behaviour) -> None:
    with endpoint(behaviour) as there:
        got = HttpTransport(there.url, timeout_s=0.3).send(BODY, "batch")

    assert got.verdict is Verdict.RETRY
    assert got.reason == "TimeoutError: no complete answer within 0.3 s"


def test_an_answer_that_comes_before_the_body_was_read_is_heard() -> None:
    with endpoint(answer(413, b"", "Retry-After: 5"), read_body=False) as there:
        got = HttpTransport(there.url, compress=False).send(b"x" * (8 << 20), "batch")

    # The reset that follows may overtake the answer; what must not happen is an error, or a hang.
    assert got.verdict in (Verdict.SPLIT, Verdict.RETRY)


def test_retry_after_comes_with_the_answer() -> None:
    clock = FakeClock(system_ns=1_445_412_420_000_000_000)
    with endpoint(
        answer(503, b"", "Retry-After: 7"), answer(503, b"", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT")
    ) as at:
        transport = HttpTransport(at.url, clock=clock)
        waits = [transport.send(BODY, "batch").retry_after_s for _ in range(2)]

    assert waits == [7.0, 60.0]


# -- what comes back is bounded ----------------------------------------------------------------------------------------


def test_a_response_is_read_no_further_than_4_mib() -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (RESPONSE_LIMIT + (1 << 20))
    with endpoint(raw(endless)) as there:
        got = HttpTransport(there.url).send(BODY, "batch")

    assert (got.verdict, len(got.body), got.truncated) == (Verdict.DELIVERED, RESPONSE_LIMIT, True)


def test_a_response_is_unpacked_no_further_than_4_mib() -> None:
    bomb = gzip.compress(b"\0" * (200 << 20))
    assert len(bomb) < 300_000
    with endpoint(answer(500, bomb, "Content-Encoding: gzip")) as there:
        got = HttpTransport(there.url).send(BODY, "batch")

    assert (got.verdict, len(got.body), got.truncated) == (Verdict.RETRY, RESPONSE_LIMIT, True)


def test_a_packed_reason_is_readable_and_a_garbled_one_is_a_failure() -> None:
    with endpoint(
        answer(400, gzip.compress(b"no such tenant"), "Content-Encoding: gzip"),
        answer(400, b"not gzip at all", "Content-Encoding: gzip"),
    ) as there:
        transport = HttpTransport(there.url)
        readable, garbled = transport.send(BODY, "1"), transport.send(BODY, "2")

    assert readable.reason == "400 Said: no such tenant"
    assert (garbled.verdict, garbled.reason.split(":")[0]) == (Verdict.RETRY, zlib.error.__name__)


# -- stopping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behaviour", [silence, drip])
def test_a_request_under_way_can_be_cut_from_another_thread(behaviour: Behaviour) -> None:
    with endpoint(behaviour) as there:
        transport = HttpTransport(there.url, timeout_s=300)
        got = []
        sender = threading.Thread(target=lambda: got.append(transport.send(BODY, "batch")))
        sender.start()
        there.wait_for(lambda seen: seen.requests)

        transport.cut()
        sender.join(30)

        assert got[0].verdict is Verdict.RETRY
        assert transport.send(BODY, "late").reason == "stopped"


def test_a_handshake_under_way_can_be_cut(authority: Path) -> None:
    with endpoint(silence) as there:  # speaks no TLS at all: it reads the hello as a request without an end
        transport = HttpTransport(there.url.replace("http:", "https:"), timeout_s=300, ca_file=authority)
        got = []
        sender = threading.Thread(target=lambda: got.append(transport.send(BODY, "batch")))
        sender.start()
        there.wait_for(lambda seen: seen.connections)

        transport.cut()
        sender.join(30)

    assert got[0].verdict is Verdict.RETRY


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 and localhost that signs itself, with its key in the same file."""
    directory = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key.pem -out cert.pem"
    made = subprocess.run(
        [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"],
        cwd=directory,
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return directory / "cert.pem"


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    return context


def test_a_large_body_arrives_over_verified_tls(authority: Path) -> None:
    with endpoint(answer(200, b"y" * 300_000), context=server_context(authority)) as there:
        transport = HttpTransport(there.url, ca_file=authority, compress=False)

        got = transport.send(b"x" * 3_000_000, "batch")

    assert (got.verdict, got.body) == (Verdict.DELIVERED, b"y" * 300_000)
    assert there.requests[0].body == b"x" * 3_000_000


def test_a_certificate_nobody_vouches_for_is_refused(authority: Path) -> None:
    with endpoint(context=server_context(authority)) as there:
        got = HttpTransport(there.url).send(BODY, "batch")

    assert got.verdict is Verdict.RETRY
    assert "CERTIFICATE_VERIFY_FAILED" in got.reason
    assert there.requests == []


def test_a_certificate_for_another_name_is_refused(authority: Path) -> None:
    with endpoint(context=server_context(authority)) as there:
        other = there.url.replace("127.0.0.1", "127.1")  # resolves to the same address, and is not in the certificate
        got = HttpTransport(other, ca_file=authority).send(BODY, "batch")

    assert got.verdict is Verdict.RETRY
    assert "Hostname mismatch" in got.reason
    assert there.requests == []


def test_the_same_transport_works_in_a_gevent_patched_host(authority: Path) -> None:
    program = f"""
from gevent import monkey; monkey.patch_all()
import sys; sys.path.insert(0, {str(Path.cwd())!r})
from reporters.delivery import HttpTransport
from runtime import _native
from runtime._waiting import waiter
got, done = [], waiter()
def send():
    for url in sys.argv[1:]:
        got.append(HttpTransport(url, ca_file={str(authority)!r}, timeout_s=20).send(b"x" * 200_000, "batch").reason)
    done.wake()
_native.start_new_thread(send, ())
assert done.wait(60)
print(got)
"""
    with endpoint() as plain, endpoint(context=server_context(authority)) as tls:
        ended = subprocess.run(
            [sys.executable, "-c", program, plain.url, tls.url], capture_output=True, text=True, check=False, timeout=90
        )

    assert ended.stdout.strip() == "['202 Said', '202 Said']", ended.stderr


# -- configuration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b", "ä"])
def test_a_header_value_that_could_do_harm_is_refused_and_not_quoted(value: str) -> None:
    for given in (value, Secret(value)):
        with pytest.raises(InvalidValue, match="expected the header X-Site to be ASCII text") as raised:
            HttpTransport("http://h/", headers={"X-Site": given})
        assert value not in str(raised.value)


@pytest.mark.parametrize("name", ["", "X Site", "X-Site:", "X\r\nY", "Ä"])
def test_a_header_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidValue, match="expected a header name"):
        HttpTransport("http://h/", headers={name: "v"})


def test_a_header_that_comes_twice_or_that_the_transport_sets_itself_is_refused() -> None:
    with pytest.raises(InvalidValue, match="expected each header once, got: 'X-Site'"):
        HttpTransport("http://h/", headers={"x-site": "a", "X-Site": "b"})
    for name in ("Content-Length", "transfer-encoding", "HOST"):
        with pytest.raises(InvalidValue, match="expected headers other than those that each request has already"):
            HttpTransport("http://h/", headers={name: "1"})


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "foundation",
            "ftp://h/",
            "http:///x",
            "http://h:99999/",
            "http://h/a b",
            "http://h/\r\nx",
            "http://[::1/",
        ),
        *("http://a..b/", f"http://{'a' * 64}.example/", "http://h/ü", "http://ü.example/"),
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidValue, match="expected a"):
        HttpTransport(url)


def test_credentials_in_the_url_are_refused_and_not_shown() -> None:
    with pytest.raises(InvalidValue, match="expected a URL without credentials") as raised:
        HttpTransport("https://user:hunter2@h/")

    assert "hunter2" not in str(raised.value)


def test_secrets_are_shown_nowhere() -> None:
    transport = HttpTransport(
        "https://h/ingest?token=hunter2",
        headers={
            "Authorization": "Bearer hunter2",
            "X-Api-Key": "hunter2",
            "X-Any": Secret("hunter2"),
            "X-Site": "lab",
        },
    )

    shown = f"{transport!r} {transport} {transport.send(BODY, 'batch').reason}"

    assert "hunter2" not in shown
    assert "'X-Site': 'lab'" in shown


def test_a_secret_that_the_endpoint_quotes_is_not_shown_either() -> None:
    body = b"x" * 190 + b" unknown token: hunter2, site: lab"
    with endpoint(answer(401, b"unknown token: hunter2, site: lab"), answer(401, body)) as there:
        transport = HttpTransport(there.url, headers={"Authorization": "Bearer hunter2", "X-Site": "lab"})

        quoted, cut_off = (transport.send(BODY, "batch").reason for _ in range(2))

    assert quoted == "401 Said: unknown token: ***, site: lab"
    assert "hunt" not in cut_off
