"""A training service on loopback that answers as a test tells it to."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Callable
from typing import Any


class Service:
    """A service that answers as told, in turn; the last answer is given again and again."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Callable[[Any], None]]] = {}
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {key.lower(): value for key, value in self.headers.items()}
                service.requests.append((self.command, self.path, headers, json.loads(body) if body else None))
                answers = service.answers[self.path.partition("?")[0]]
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                answer(self)

            do_GET = do_POST

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def answer(status: int = 200, content: object = None, **headers: str) -> Callable[[Any], None]:
    def give(handler: http.server.BaseHTTPRequestHandler) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        handler.send_response(status)
        for key, value in {"Content_Length": str(len(body)), **headers}.items():
            handler.send_header(key.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return give


def hang_up(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def cut_off(body: bytes) -> Callable[[Any], None]:
    """Promise more than what comes."""

    def give(handler: http.server.BaseHTTPRequestHandler) -> None:
        answer(content=body, Content_Length=str(len(body) + 10))(handler)
        handler.close_connection = True

    return give


def raw(said: bytes) -> Callable[[Any], None]:
    """Say this and nothing else, and hang up."""

    def give(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(said)
        handler.close_connection = True

    return give


def pending(state: str | None = None, reason: str | None = None, **more: object) -> Callable[[Any], None]:
    return answer(content={"status": "pending", "queue_state": state, "queue_state_reason": reason, **more})


def completed(result: object) -> Callable[[Any], None]:
    return answer(content={"status": "completed", "result": result})
