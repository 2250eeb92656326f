"""The inspector without a notebook, in a browser tab: one process that listens on this machine only, for one person."""

import json
import secrets
import signal
import sys
import webbrowser
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock

from ..prediction import packaged_run, photographs
from .page import html
from .session import Session

LARGEST = 20_000_000
"""Bytes of a question; the page shrinks photos before it sends them."""


def serve(
    run: Path | str | None = None, root: Path | None = None, count: int = 24, own: Sequence[str] = (),
    browser: bool = True,
) -> int:
    """Open the inspector of a run in the browser, and answer it until Ctrl+C or SIGTERM; returns the exit status.

    The address holds a token, so that others who are logged in on this machine don't get in.

    Args:
        run: a finished run's folder; None: the bundled network for photographs.
        count: how many of the test photos in ``root`` are offered.
        own: one's own photographs, folders or patterns, shown first.
        browser: whether to open one, or only to print the address.
    """
    session = Session(Path(run or packaged_run("photographs").folder), root=root, count=count, own=photographs(own))
    token = secrets.token_urlsafe(16)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(session, token)) as server:
        server.daemon_threads = False  # the end waits for what is being computed: torch aborts if it is cut off
        address = f"http://127.0.0.1:{server.server_address[1]}/{token}/"
        print(f"The inspector is at {address}\nPress Ctrl+C to end it.", flush=True)
        if browser:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("", flush=True)
    return 0


def handler(session: Session, token: str) -> type[BaseHTTPRequestHandler]:
    """What answers the browser: the page, and one question at a time; without the token, nothing."""
    page, one_at_a_time = html([session.page], live=True).encode(), Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != f"/{token}/":
                return self.send_error(HTTPStatus.FORBIDDEN, "the address needs the token that the command printed")
            return self._send(page, "text/html; charset=utf-8")

        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length", 0))
            if self.path != f"/{token}/ask" or size > LARGEST:
                return self.send_error(HTTPStatus.FORBIDDEN)
            with one_at_a_time:
                answer = session.answer(json.loads(self.rfile.read(size)))
            return self._send(json.dumps(answer).encode(), "application/json")

        def _send(self, content: bytes, kind: str) -> None:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_) -> None:
            """Nothing: the terminal is for the address."""

    return Handler
