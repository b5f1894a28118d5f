"""A hub on loopback that speaks the part of the API that the client's snapshot download uses."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "5e" * 20


@dataclass
class FakeHub:
    """Models and data sets by id, each a mapping of file names to bytes; `asked`: all requests."""

    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    datasets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    commit: str = COMMIT  # what `main` stands for
    asked: list[str] = field(default_factory=list)
    stall: str = ""  # half of this file is sent, then nothing until `go_on`
    stalled: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    @contextmanager
    def running(self) -> Iterator[FakeHub]:
        """Serve."""
        hub = self

        class Handler(_Handler):
            served = hub

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            self.go_on.set()
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    served: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: object) -> None:
        """Be quiet."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        hub, path = self.served, unquote(urlsplit(self.path).path)
        ranged = f" {self.headers['Range']}" if self.headers.get("Range") else ""
        hub.asked.append(f"{self.command} {path}{ranged}")
        every = [("models", *one) for one in hub.models.items()]
        every += [("datasets", *one) for one in hub.datasets.items()]
        for kind, repo, files in every:
            about = f"/api/{kind}/{repo}"
            if path.startswith(f"{about}/tree/"):
                return self._json([_entry(name, data) for name, data in files.items()])
            if path.startswith(f"{about}/revision/") or path == about:
                revision = path.rsplit("/revision/", 1)[1] if "/revision/" in path else "main"
                if revision not in ("main", hub.commit):
                    return self._refuse("RevisionNotFound")
                siblings = [{"rfilename": name} for name in files]
                return self._json({"id": repo, "sha": hub.commit, "siblings": siblings})
            folder = "/datasets" if kind == "datasets" else ""
            start = f"{folder}/{repo}/resolve/{hub.commit}/"
            if path.startswith(start) and path.removeprefix(start) in files:
                return self._file(path.removeprefix(start), files, body=body)
        return self._refuse("RepoNotFound")

    def _file(self, name: str, files: dict[str, bytes], *, body: bool) -> None:
        data, first = files[name], 0
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes="):
            first = int(wanted.removeprefix("bytes=").split("-")[0])
        self.send_response(206 if first else 200)
        self.send_header("X-Repo-Commit", self.served.commit)
        self.send_header("ETag", f'"{_digest(data)}"')
        self.send_header("Accept-Ranges", "bytes")
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - first))
        self.end_headers()
        if not body:
            return
        if name == self.served.stall:
            half = len(data) // 2
            self.wfile.write(data[first:half])
            self.wfile.flush()
            self.served.stalled.set()
            self.served.go_on.wait(60)
            first = half
        self.wfile.write(data[first:])

    def _json(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _entry(name: str, data: bytes) -> dict[str, object]:
    return {"type": "file", "path": name, "size": len(data), "oid": _digest(data)[:40]}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
