"""The REST interface as bytes on the wire: nothing is normalised, and every status is looked at."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any, Self
from urllib.parse import urlsplit

ROOT = "z" * 32
AUTHOR = {"name": "Ada", "email": "ada@example.com"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error's code; fails on anything that is not the contract's envelope."""
        error = self.json()["error"]
        assert set(self.json()) == {"error"}
        assert {"code", "message"} <= set(error) <= {"code", "message", "details", "trace_id"}
        return str(error["code"])

    @property
    def message(self) -> str:
        return str(self.json()["error"]["message"])


class Rest:
    """A connection that is kept, with one credential."""

    def __init__(self, api_url: str, org: str, credential: str | None) -> None:
        parts = urlsplit(api_url)
        assert parts.hostname is not None
        self.org = org
        self.prefix = parts.path
        self._host, self._port = parts.hostname, parts.port
        self._connection = HTTPConnection(parts.hostname, parts.port, timeout=30)
        self.credential = credential

    def as_(self, credential: str | None) -> Rest:
        """The same server for another caller."""
        return Rest(f"http://{self._host}:{self._port}{self.prefix}", self.org, credential)

    def send(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send ``target`` exactly as it stands."""
        everything = dict(headers or {})
        if self.credential is not None:
            everything.setdefault("Authorization", f"Bearer {self.credential}")
        self._connection.request(method, target, body, everything)
        response = self._connection.getresponse()
        answer = Answer(
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read(),
        )
        if answer.headers.get("connection") == "close":
            self._connection.close()
        return answer

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        expect: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        data = None if body is None else json.dumps(body).encode()
        more = {} if body is None else {"Content-Type": "application/json"}
        answer = self.send(method, self.prefix + path, data, {**more, **(headers or {})})
        assert expect is None or answer.status == expect, (answer.status, answer.body[:500])
        return answer

    def get(self, path: str, *, expect: int | None = None, **headers: str) -> Answer:
        return self.call("GET", path, expect=expect, headers=headers)

    def post(self, path: str, body: Any, *, expect: int | None = None) -> Answer:
        return self.call("POST", path, body, expect=expect)

    def patch(self, path: str, body: Any, *, expect: int | None = None) -> Answer:
        return self.call("PATCH", path, body, expect=expect)

    def delete(self, path: str, *, expect: int | None = None) -> Answer:
        return self.call("DELETE", path, expect=expect)

    def change(self, repo: str, files: Mapping[str, bytes], base: str = ROOT) -> dict[str, Any]:
        """Make a change with these files."""
        body = {
            "base_change_id": base,
            "message": "edit",
            "author": AUTHOR,
            "files": [upsert(path, content) for path, content in files.items()],
        }
        made: dict[str, Any] = self.post(f"/{self.org}/{repo}/changes", body, expect=201).json()
        return made

    def key(self, **members: Any) -> dict[str, Any]:
        made: dict[str, Any] = self.post(f"/{self.org}/api-keys", members, expect=201).json()
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def upsert(path: str, content: bytes, **more: str) -> dict[str, str]:
    return {"path": path, "content": base64.b64encode(content).decode(), **more}
