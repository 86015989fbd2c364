"""The Prometheus endpoint in a running application, asked by real clients."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import runtime
from actors import whereis
from reporters import Prometheus
from reporters.prometheus import PrometheusReporter
from runtime.errors import InvalidValue, StartError
from runtime.metrics import counter, distribution
from supervisors import Application
from tests.reporters.delivery.endpoint import closed_port
from tests.runtime.meeting import PATIENCE_S, until

METRICS = [
    counter("shop.order.count", tags=["country"]),
    distribution("shop.order.duration", unit=("native", "millisecond"), reporter_options={"buckets": [10, 50]}),
]


def get(
    declaration: Prometheus, path: str = "/metrics", method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], str]:
    port = declaration.kept.port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    """An endpoint in a running shop in which one order has been placed."""
    declaration = Prometheus(port=0)
    with Application("shop", metrics=METRICS, children=[declaration]).running():
        runtime.execute("shop.order", {"duration": 45_000_000}, {"country": "nl"})
        yield declaration


def test_a_scrape_sees_everything_that_happened_before_it(prometheus: Prometheus) -> None:
    for n in range(2, 5):
        runtime.execute("shop.order", {"duration": 1}, {"country": "nl"})

        status, headers, body = get(prometheus)

        assert status == 200
        assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert f'shop_order_count_total{{country="nl"}} {n}.0\n' in body
    assert prometheus.statistics().served == 3
    assert prometheus.statistics().last_bytes == len(body)


def test_a_client_may_ask_for_openmetrics(prometheus: Prometheus) -> None:
    status, headers, body = get(prometheus, Accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")

    assert status == 200
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith("# EOF\n")


def test_head_answers_without_a_body(prometheus: Prometheus) -> None:
    status, _, body = get(prometheus, method="HEAD")

    assert (status, body) == (200, "")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"path": "/"}, 404),
        ({"path": "/metrics/more"}, 404),
        ({"method": "POST"}, 405),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:9464"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:1"}, 200),
    ],
)
def test_only_what_is_meant_for_it_is_answered(prometheus: Prometheus, request_: dict[str, str], status: int) -> None:
    assert get(prometheus, **request_)[0] == status  # type: ignore[arg-type]
    assert prometheus.statistics().refused == (status != 200)


def test_with_a_token_only_its_bearer_is_answered_under_whatever_name() -> None:
    declaration = Prometheus(port=0, token="s3cret")

    with Application("shop", metrics=METRICS, children=[declaration]).running():
        assert get(declaration)[0] == 401
        assert get(declaration, Authorization="Bearer wrong")[0] == 401
        assert get(declaration, Authorization="Bearer s3cret", Host="node7.example")[0] == 200
        assert "s3cret" not in repr(declaration)


def test_a_client_that_says_nothing_holds_nobody_up(prometheus: Prometheus) -> None:
    with socket.create_connection(("127.0.0.1", prometheus.kept.port)) as silent:
        silent.sendall(b"GET /metrics HTTP/1.1\r\n")

        assert get(prometheus)[0] == 200


def test_a_restarted_endpoint_listens_again_on_its_port() -> None:
    with (
        closed_port() as port,
        Application("shop", metrics=METRICS, children=[declaration := Prometheus(port=port)]).running(),
    ):
        reporter = whereis(declaration.name)
        reporter.kill()
        reporter.wait(PATIENCE_S)
        until(lambda: whereis(declaration.name) not in (None, reporter))
        whereis(declaration.name).get_state()  # answered when it has started

        assert get(declaration)[0] == 200


def test_a_port_that_is_taken_is_a_failed_start() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        declaration = Prometheus(port=taken.getsockname()[1])

        with pytest.raises(StartError, match="to be free for Prometheus"):
            Application("shop", metrics=METRICS, children=[declaration]).start()


def test_without_an_aggregator_a_scrape_is_told_so() -> None:
    declaration = Prometheus(port=0)
    reporter = PrometheusReporter.start(declaration)

    status, _, body = get(declaration)
    reporter.stop()

    assert (status, body) == (503, "expected an aggregator to run, got: none\n")
    assert declaration.statistics().failed == 1


@pytest.fixture
def port() -> Iterator[int]:
    """A port that is free, and stays so until a server of the test takes it."""
    with closed_port() as port:
        yield port


def test_a_real_prometheus_scrapes_our_numbers(
    prometheus: Prometheus, peer: Callable[[str], str], tmp_path: Path, port: int
) -> None:
    program = peer("prometheus")
    (tmp_path / "config.yml").write_text(
        f"""
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: shop
    static_configs: [{{targets: ["127.0.0.1:{prometheus.kept.port}"]}}]
"""
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={tmp_path / 'config.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        assert _query(port, "shop_order_count_total") == {"country": "nl", "value": "1"}
        assert _query(port, "histogram_quantile(1, shop_order_duration_bucket)")["value"] == "50"
        assert _query(port, "up")["value"] == "1"
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _query(port: int, query: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/api/v1/query?" + urllib.parse.urlencode({"query": query}))
            found = json.loads(connection.getresponse().read())["data"]["result"]
            if found:
                labels = {key: value for key, value in found[0]["metric"].items() if key == "country"}
                return {**labels, "value": found[0]["value"][1]}
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            pass
        finally:
            connection.close()
        time.sleep(0.05)
    pytest.fail(f"expected Prometheus to know {query}, got: nothing")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": "example.com"}, "expected host to be an address of this machine, or localhost, got: 'example.com'"),
        ({"host": None}, "expected host to be an address of this machine"),
        ({"host": "0.0.0.0"}, "expected a token where host is not loopback, got: '0.0.0.0'. Give token="),
        ({"port": -1}, "expected port to be an integer within 0…65535, got: -1"),
        ({"port": True}, "expected port to be an integer"),
        ({"path": "metrics"}, "expected path to begin with /"),
        ({"path": "/a b"}, "expected path to begin with /"),
        ({"token": ""}, "expected token to be a non-empty ASCII string without spaces, got: 'str'"),
        ({"token": "two words"}, "expected token to be a non-empty ASCII string without spaces, got: 'str'"),
        ({"name": ""}, "expected name to be a non-empty string"),
    ],
)
def test_a_bad_option_is_refused_where_it_is_given(options: Any, message: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        Prometheus(**options)

    assert message in str(refusal.value)


def test_without_the_extra_the_line_to_run_is_told() -> None:
    program = """
import sys
sys.modules["prometheus_client"] = None
from reporters import MissingExtra, Prometheus, Statsd
Statsd()
try:
    Prometheus()
except MissingExtra as error:
    print(error)
"""

    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert told.stderr == ""
    assert told.stdout.endswith("Run: pip install 'beamstalk[prometheus]'\n")
