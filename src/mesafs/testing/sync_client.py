"""A client of the sync protocol for tests: it can do everything a mount does, and say wrong things too."""

from __future__ import annotations

import http.client
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from mesafs.git.objects import object_id
from mesafs.git.packs import OBJECT_BLOB, OBJECT_COMMIT, OBJECT_TREE, PackWriter
from mesafs.model.ids import (
    EMPTY_TREE,
    BlobId,
    ChangeId,
    CheckoutId,
    CommitId,
    PublishId,
    RepositoryId,
    TreeId,
)
from mesafs.store.objects import Draft
from mesafs.testing.trees import make_tree
from mesafs.wire.sync import (
    PACK_TYPE,
    PREFIX,
    PROTOCOL_VERSION,
    VERSION_HEADER,
    PublishAnswer,
    PublishRequest,
    RepositoryState,
    decode_blobs,
)

_KINDS = {OBJECT_COMMIT: b"commit", OBJECT_TREE: b"tree", OBJECT_BLOB: b"blob"}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])


class Nothing:
    """An object store without objects, so that a draft over it holds all it speaks of."""

    def tree(self, tree: TreeId, /) -> Any:
        raise KeyError(tree)

    def blob(self, blob: BlobId, /) -> bytes:
        raise KeyError(blob)

    def blob_size(self, blob: BlobId, /) -> int:
        raise KeyError(blob)

    def commit(self, commit: CommitId, /) -> Any:
        raise KeyError(commit)

    def missing(self, ids: Iterable[bytes], /) -> set[bytes]:
        return set(ids)


class SyncClient:
    """One connection under one credential."""

    def __init__(self, url: str, credential: str, *, version: str | None = None) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        self._headers = {
            "Authorization": f"Bearer {credential}",
            VERSION_HEADER: version or str(PROTOCOL_VERSION),
        }
        self._publishes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        sent = {**self._headers, **(headers or {})}
        if body is not None:
            sent["Content-Type"] = content_type
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._connection.request(method, path, body, sent)
        answer = self._connection.getresponse()
        content = answer.read()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, content)

    def create_repository(self, organisation: str, name: str) -> RepositoryId:
        answer = self.call("POST", f"/v1/{organisation}/repos", {"name": name})
        assert answer.status == 201, answer
        return RepositoryId(answer.json["id"])

    def state(self, organisation: str, name: str, bookmark: str | None = None) -> RepositoryState:
        body = {
            "organisation": organisation,
            "repositories": [{"name": name, "bookmark": bookmark}],
        }
        answer = self.call("POST", f"{PREFIX}/resolve", body)
        assert answer.status == 200, answer
        return RepositoryState.from_json(answer.json["repositories"][0])

    def send_pack(
        self, repository: RepositoryId, pack: bytes, *, checkout: str = "checkout-1"
    ) -> Answer:
        path = f"{PREFIX}/repositories/{repository}/packs?checkout={checkout}"
        return self.call("POST", path, pack, content_type=PACK_TYPE)

    def send_files(self, repository: RepositoryId, files: Mapping[str, bytes]) -> TreeId:
        """Send a whole tree of these files; returns its id."""
        draft = Draft(Nothing())
        tree = make_tree(draft, files)
        if tree != EMPTY_TREE:
            answer = self.send_pack(repository, pack_of_draft(draft))
            assert answer.status == 200, answer
        return tree

    def request(
        self,
        state: RepositoryState,
        tree: TreeId,
        *,
        publish_id: str | None = None,
        checkout: str = "checkout-1",
        touched: Iterable[bytes] = (),
        message: str | None = None,
        base_tree: TreeId | None = None,
    ) -> PublishRequest:
        self._publishes += 1
        return PublishRequest(
            publish_id=PublishId(publish_id or f"{id(self):x}-{self._publishes}"),
            checkout_id=CheckoutId(checkout),
            bookmark=state.bookmark,
            change=ChangeId(state.change),
            base_commit=state.commit,
            tree=tree,
            base_tree=base_tree,
            touched_conflicts=tuple(touched),
            message=message,
        )

    def send_publish(self, repository: RepositoryId, request: PublishRequest) -> Answer:
        path = f"{PREFIX}/repositories/{repository}/publish"
        return self.call("POST", path, request.to_json())

    def publish(
        self, state: RepositoryState, files: Mapping[str, bytes], **more: Any
    ) -> PublishAnswer:
        """Send a tree of these files and publish it on ``state``; it must succeed."""
        tree = self.send_files(state.repository, files)
        answer = self.send_publish(state.repository, self.request(state, tree, **more))
        assert answer.status == 200, answer
        return PublishAnswer.from_json(answer.json)

    def conflict_text(self, state: RepositoryState, path: bytes) -> bytes | None:
        body = {"commit": state.commit.hex(), "paths": [path.decode()]}
        answer = self.call("POST", f"{PREFIX}/repositories/{state.repository}/conflicts", body)
        assert answer.status == 200, answer
        stream = io.BytesIO(answer.body)
        for _, size in decode_blobs(stream.read):
            return None if size is None else stream.read(size)
        raise AssertionError("there is a frame for each path")


def pack_of(objects: Iterable[tuple[int, bytes]]) -> bytes:
    """A pack of these objects: kind as in a pack, and content, however wrong that may be."""
    file = io.BytesIO()
    writer = PackWriter(file)
    for kind, content in objects:
        writer.add(kind, object_id(_KINDS[kind], content), content)
    writer.finish()
    return file.getvalue()


def pack_of_draft(draft: Draft) -> bytes:
    """A pack of everything new in a draft."""
    return pack_of((kind, content) for kind, _, content in draft.new_objects())
