"""A registry of images of this process's own: the part of the distribution API that a pull asks for."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_CONFIG = "application/vnd.docker.container.image.v1+json"


def digest_of(content: bytes) -> str:
    """Return the digest by which content is known."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


@dataclass
class Registry:
    """What it has and what it was asked. `status` other than 200 is how it answers for every manifest."""

    port: int = 0
    status: int = 200
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        """What stands before the names of its images."""
        return f"127.0.0.1:{self.port}"

    def add(self, name: str, files: Mapping[str, str], labels: Mapping[str, str] | None = None) -> str:
        """Have an image of one layer with these files under a name (`library/one:1`); return its digest."""
        layer = self._blob(_archive(files))
        shape = {"Labels": dict(labels or {}), "Cmd": ["/none"]}
        told = {"architecture": "amd64", "os": "linux", "config": shape}
        config = self._blob(json.dumps({**told, "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}).encode())
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": {**config, "mediaType": _CONFIG},
                "layers": [{**layer, "mediaType": _LAYER}],
            }
        ).encode()
        repository, _, tag = name.rpartition(":")
        for reference in (tag, digest_of(manifest)):
            self.manifests[f"{repository}/{reference}"] = manifest
        return digest_of(manifest)

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Return status, content type and content of a path."""
        if path == "/v2/":
            return 200, "application/json", b"{}"
        if found := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path):
            self.asked.append("/".join(found.groups()))
            content = self.manifests.get("/".join(found.groups()))
            if self.status == 200 and content is not None:
                return 200, _MANIFEST, content
            status = self.status if self.status != 200 else 404
            code = {401: "UNAUTHORIZED", 404: "MANIFEST_UNKNOWN"}.get(status, "UNKNOWN")
            text = HTTPStatus(status).phrase
            return status, "application/json", json.dumps({"errors": [{"code": code, "message": text}]}).encode()
        content = self.blobs.get(path.rpartition("/")[2])
        return (404, "text/plain", b"") if content is None else (200, "application/octet-stream", content)

    def _blob(self, content: bytes) -> dict[str, str | int]:
        self.blobs[digest_of(content)] = content
        return {"digest": digest_of(content), "size": len(content)}


def _archive(files: Mapping[str, str]) -> bytes:
    spool = io.BytesIO()
    with tarfile.open(fileobj=spool, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return spool.getvalue()


@contextmanager
def serving() -> Iterator[Registry]:
    """Run a registry on loopback, where engines take one without TLS, for the length of a block."""
    registry = Registry()

    class Conversation(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, kind, content = registry.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="test"')
            if kind == _MANIFEST:
                self.send_header("Docker-Content-Digest", digest_of(content))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815 - the standard library's names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Conversation) as server:
        server.daemon_threads = True
        registry.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield registry
        server.shutdown()
