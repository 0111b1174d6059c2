"""An HTTP proxy that fails on purpose, between a store and its server."""

import http.client
import socket
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

Rule = Callable[["Request"], object]
"""Returns what happens to a request: nothing odd (None), a status, or one of the words below."""

CUT = "cut the connection before the request reaches the server"
CUT_LATE = "cut the connection after the server has done it, in mid-answer"
DROP = "say that it is done, and forget it"
HANG = "never answer"


class Request:
    """What a rule sees of a request."""

    def __init__(self, number: int, method: str, path: str, size: int) -> None:
        self.number = number
        self.method = method
        self.path = path
        self.size = size

    def __repr__(self) -> str:
        return f"{self.method} {self.path} ({self.size} bytes)"


class Proxy:
    """Forwards to a server, as a rule says; remembers the requests."""

    def __init__(self, server: str) -> None:
        self.rule: Rule = lambda request: None
        self.before: Rule = lambda request: None
        """Called without a lock, so that it may wait for other requests."""
        self.requests: list[Request] = []
        self.ending = threading.Event()
        self._lock = threading.Lock()
        self._under_way = 0
        self._settled = threading.Condition()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_any(self) -> None:
                with proxy._settled:
                    proxy._under_way += 1
                try:
                    proxy.handle(self, server)
                finally:
                    with proxy._settled:
                        proxy._under_way -= 1
                        proxy._settled.notify_all()

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

            def log_message(self, *arguments: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that was killed, or gave up

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = "http://{}:{}".format(*self._server.server_address[:2])
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> "Proxy":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        self.ending.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def settle(self) -> None:
        """Wait until all requests that came have been dealt with, whoever sent them."""
        with self._settled:
            assert self._settled.wait_for(lambda: self._under_way == 0, timeout=60)

    def counts(self) -> dict[str, int]:
        """Return how often each method came."""
        methods = [request.method for request in self.requests]
        return {method: methods.count(method) for method in sorted(set(methods))}

    def handle(self, handler: BaseHTTPRequestHandler, server: str) -> None:
        size = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(size)
        with self._lock:
            request = Request(len(self.requests), handler.command, handler.path, size)
            self.requests.append(request)
            odd = self.rule(request)
        self.before(request)
        if odd == HANG:
            self.ending.wait()
        if odd in (CUT, HANG):
            return cut(handler)
        if odd == DROP:
            return answer(handler, 200, {"ETag": '"0"'}, b"")
        if isinstance(odd, int):
            text = b"<Error><Code>InternalError</Code><Message>injected</Message></Error>"
            return answer(handler, odd, {"Content-Type": "application/xml"}, text)
        connection = http.client.HTTPConnection(urlsplit(server).netloc)
        try:
            connection.putrequest(handler.command, handler.path, True, True)
            for name, value in handler.headers.items():
                if name.lower() != "expect":
                    connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            found = response.read()
            headers = dict(response.getheaders())
        finally:
            connection.close()
        if odd == CUT_LATE:
            handler.send_response_only(response.status)
            handler.send_header("Content-Length", str(len(found) + 100))
            handler.end_headers()
            handler.wfile.write(found[: len(found) // 2])
            return cut(handler)
        return answer(handler, response.status, headers, found)


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Reset the connection, as a router does that was switched off and on."""
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def answer(
    handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes
) -> None:
    handler.send_response_only(status)
    for name, value in headers.items():
        if name.lower() not in ("content-length", "transfer-encoding", "connection"):
            handler.send_header(name, value)
    length = headers.get("Content-Length", "0") if handler.command == "HEAD" else str(len(body))
    handler.send_header("Content-Length", length)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)
