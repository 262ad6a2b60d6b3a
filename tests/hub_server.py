"""A local Hugging Face Hub with the endpoints that quovadis uses and models in memory."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_ofTheTests"


@dataclass
class Repo:
    """A model repository; each commit contains all files."""

    private: bool = False
    gated: bool = False
    refs: dict[str, str] = field(default_factory=lambda: {"main": "0" * 40})
    commits: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"0" * 40: {}})

    def resolve(self, revision: str) -> str | None:
        commit = self.refs.get(revision, revision)
        return commit if commit in self.commits else None

    def commit(self, files: dict[str, bytes], revision: str = "main") -> str:
        """Commit files to a branch; returns the new commit."""
        parent = self.refs.get(revision, "0" * 40)
        content = {**self.commits[parent], **files}
        name = hashlib.sha1(repr((parent, sorted(content.items()))).encode()).hexdigest()
        self.commits[name] = content
        self.refs[revision] = name
        return name


class Hub(ThreadingHTTPServer):
    """Server with the API of the Hub."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        """Uploaded large files by sha256."""
        self.requests: list[str] = []
        """Method and path of every request."""
        self.status: int | None = None
        """If set, the status of every response."""
        self.may_write = True
        """Whether the token gives write access."""

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, name: str, **files: bytes) -> Repo:
        """Create a repository with one commit; ``__`` in a file name stands for a dot."""
        repo = self.repos.setdefault(name, Repo())
        repo.commit({file.replace("__", "."): content for file, content in files.items()})
        return repo

    def head(self, name: str = "org/name") -> tuple[str, dict[str, bytes]]:
        """Return the newest commit of the main branch and its files."""
        commit = self.repos[name].refs["main"]
        return commit, self.repos[name].commits[commit]

    @property
    def downloads(self) -> list[str]:
        """Names of the downloaded files."""
        return [line.rpartition("/")[2] for line in self.requests if line.startswith("GET") and "/resolve/" in line]


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(b"")

    def do_PUT(self) -> None:
        self._answer(self._body())

    def do_POST(self) -> None:
        self._answer(self._body())

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, body: bytes) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.server.status is not None:
            return self._send({"error": "out of order"}, self.server.status)
        if given and given != TOKEN:
            return self._refuse(401, "", "Invalid credentials in Authorization header")
        if self.command in ("POST", "PUT"):
            if path.startswith("/lfs/"):  # upload URLs of the batch endpoint need no token
                return self._keep(path.removeprefix("/lfs/"), body)
            if not given:
                return self._refuse(401, "", "Please log in")
            if not self.server.may_write:
                return self._refuse(403, "", "You don't have the rights to create a model under this namespace")
            return self._post(path, json.loads(body) if "commit" not in path else body)
        return self._get(path, bool(given))

    def _post(self, path: str, body: Any) -> None:
        server, parts = self.server, path.strip("/").split("/")
        if path == "/api/validate-yaml":
            front = body["content"].split("---\n")[1]
            assert isinstance(yaml.safe_load(front), dict)
            return self._send({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            name = f"{body['organization']}/{body['name']}"
            if name in server.repos:
                return self._send({"error": "exists", "url": f"{server.root}/{name}"}, 409)
            server.repos[name] = Repo(private=bool(body.get("private") or body.get("visibility") == "private"))
            return self._send({"url": f"{server.root}/{name}"})
        if path.endswith("/info/lfs/objects/batch"):
            return self._send({"transfer": "basic", "objects": [self._upload(o) for o in body["objects"]]})
        repo = "/".join(parts[2:4])
        if parts[4] == "preupload":
            modes = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for f in body["files"]
            ]
            return self._send({"files": modes})
        assert parts[4] == "commit", path
        commit = server.repos[repo].commit(dict(self._committed(body)), parts[5])
        return self._send({"commitUrl": f"{server.root}/{repo}/commit/{commit}", "commitOid": commit})

    def _upload(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {**asked, "actions": {"upload": {"href": f"{self.server.root}/lfs/{asked['oid']}"}}}

    def _committed(self, lines: bytes) -> Iterator[tuple[str, bytes]]:
        for line in lines.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                yield value["path"], base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                yield value["path"], self.server.blobs[value["oid"]]

    def _keep(self, oid: str, content: bytes) -> None:
        if hashlib.sha256(content).hexdigest() != oid:
            return self._send({"error": "other bytes"}, 400)
        self.server.blobs[oid] = content
        return self._send({})

    def _get(self, path: str, known: bool) -> None:
        parts = path.strip("/").split("/")
        is_api = parts[0] == "api"
        name = "/".join(parts[2:4] if is_api else parts[:2])
        repo = self.server.repos.get(name)
        if repo is None or (repo.private and not known):
            return self._refuse(404 if known else 401, "RepoNotFound", "Repository not found")
        rest = parts[4:] if is_api else parts[2:]
        revision = "main" if not rest else "/".join(rest[1:] if is_api else rest[1:-1])
        commit = repo.resolve(revision)
        if commit is None:
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files = repo.commits[commit]
        if is_api:
            return self._send({"id": name, "sha": commit, "siblings": [{"rfilename": f} for f in files]})
        if repo.gated:
            return self._refuse(403, "GatedRepo", "Access is restricted")
        if rest[-1] not in files:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        content = files[rest[-1]]
        return self._send(
            content, headers={"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        )

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._send({"error": message}, status, {"X-Error-Code": code, "X-Error-Message": message})

    def _send(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def serving_hub() -> Iterator[Hub]:
    """Run a Hub on a free port during the block."""
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
