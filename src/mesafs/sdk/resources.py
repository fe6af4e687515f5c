"""The namespaces of the client: ``mesa.repos``, ``mesa.changes``, … as coroutines.

Names, keyword arguments and results are those of the published Python SDK of the 0.38 generation.
"""

from __future__ import annotations

from collections.abc import Sequence

from mesafs.sdk import operations
from mesafs.sdk.operations import tuple_or_none
from mesafs.sdk.session import Session, TokenCreateResult
from mesafs.wire.api_keys import ApiKeyPage, CreatedApiKey, NewApiKey
from mesafs.wire.changes import (
    Author,
    Change,
    ChangeDetail,
    ChangePage,
    ChangeUpdate,
    FileChange,
    NewChange,
)
from mesafs.wire.content import Content as ContentAnswer
from mesafs.wire.diffs import Diff
from mesafs.wire.organisations import Organisation, Success
from mesafs.wire.repositories import (
    Bookmark,
    BookmarkPage,
    NewBookmark,
    NewRepo,
    Repo,
    RepoPage,
    RepoUpdate,
)


class Resource:
    """A namespace: it has nothing but the session."""

    def __init__(self, session: Session) -> None:
        self._session = session


class OrgResource(Resource):
    """``mesa.org``."""

    async def get(self, *, org: str | None = None) -> Organisation:
        resolved = await self._session.resolve_org(org)
        return await self._session.run(operations.get_org(resolved))


class Tokens(Resource):
    """``mesa.tokens``: signed here, verified there, never stored."""

    async def create(
        self,
        *,
        org: str | None = None,
        scopes: list[str] | None = None,
        repos: list[str] | None = None,
        ttl_seconds: int | None = None,
    ) -> TokenCreateResult:
        """Sign a token of at most this key's rights; ``repos`` are ``org/repo``, None restricts nothing.

        ``org`` is accepted and has no meaning: the server knows the organisation of the key.
        """
        del org
        return await self._session.sign_token(scopes, repos, ttl_seconds)


class ApiKeys(Resource):
    """``mesa.api_keys``."""

    async def list(
        self, *, org: str | None = None, cursor: str | None = None, limit: int | None = None
    ) -> ApiKeyPage:
        resolved = await self._session.resolve_org(org)
        return await self._session.run(
            operations.list_api_keys(resolved, cursor=cursor, limit=limit)
        )

    async def create(
        self,
        *,
        org: str | None = None,
        name: str | None = None,
        scopes: Sequence[str] | None = None,
        repo_ids: Sequence[str] | None = None,
        expires_in_seconds: int | None = None,
    ) -> CreatedApiKey:
        """Make a key; its text is in this answer and nowhere else, ever."""
        resolved = await self._session.resolve_org(org)
        body = NewApiKey(name, tuple_or_none(scopes), tuple_or_none(repo_ids), expires_in_seconds)
        return await self._session.run(operations.create_api_key(resolved, body))

    async def revoke(self, *, key_id: str, org: str | None = None) -> Success:
        """End a key and every token signed with it, at once."""
        resolved = await self._session.resolve_org(org)
        return await self._session.run(operations.revoke_api_key(resolved, key_id))


class Repos(Resource):
    """``mesa.repos``."""

    async def list(
        self,
        *,
        org: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
        tags: str | None = None,
    ) -> RepoPage:
        resolved = await self._session.resolve_org(org)
        return await self._session.run(
            operations.list_repos(resolved, cursor=cursor, limit=limit, tags=tags)
        )

    async def create(
        self,
        *,
        org: str | None = None,
        name: str | None = None,
        default_bookmark: str | None = None,
        tags: dict[str, str] | None = None,
    ) -> Repo:
        """Make a repository, empty; without a name the server gives one."""
        resolved = await self._session.resolve_org(org)
        body = NewRepo(name, default_bookmark, tags)
        return await self._session.run(operations.create_repo(resolved, body))

    async def get(self, *, repo: str, org: str | None = None) -> Repo:
        resolved = await self._session.resolve_org(org)
        return await self._session.run(operations.get_repo(resolved, repo))

    async def update(
        self,
        *,
        repo: str,
        org: str | None = None,
        name: str | None = None,
        default_bookmark: str | None = None,
        tags: dict[str, str | None] | None = None,
    ) -> Repo:
        """Change what is given; a tag of None is removed."""
        resolved = await self._session.resolve_org(org)
        body = RepoUpdate(name, default_bookmark, tags)
        return await self._session.run(operations.update_repo(resolved, repo, body))

    async def delete(self, *, repo: str, org: str | None = None) -> Success:
        resolved = await self._session.resolve_org(org)
        return await self._session.run(operations.delete_repo(resolved, repo))


class Bookmarks(Resource):
    """``mesa.bookmarks``."""

    async def list(
        self,
        *,
        repo: str,
        org: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
        glob: str | None = None,
    ) -> BookmarkPage:
        resolved = await self._session.resolve_org(org)
        return await self._session.run(
            operations.list_bookmarks(resolved, repo, cursor=cursor, limit=limit, glob=glob)
        )

    async def get(self, *, repo: str, bookmark: str, org: str | None = None) -> Bookmark:
        resolved = await self._session.resolve_org(org)
        return await self._session.run(operations.get_bookmark(resolved, repo, bookmark))

    async def create(
        self, *, repo: str, name: str, change_id: str, org: str | None = None
    ) -> Bookmark:
        resolved = await self._session.resolve_org(org)
        body = NewBookmark(name, change_id)
        return await self._session.run(operations.create_bookmark(resolved, repo, body))


class Changes(Resource):
    """``mesa.changes``."""

    async def list(
        self,
        *,
        repo: str,
        org: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
        bookmark: str | None = None,
    ) -> ChangePage:
        """Newest first, along the bookmark's ancestry."""
        resolved = await self._session.resolve_org(org)
        return await self._session.run(
            operations.list_changes(resolved, repo, cursor=cursor, limit=limit, bookmark=bookmark)
        )

    async def create(
        self,
        *,
        repo: str,
        base_change_id: str,
        org: str | None = None,
        message: str | None = None,
        author: Author | None = None,
        committer: Author | None = None,
        files: Sequence[FileChange] | None = None,
    ) -> Change:
        """Make a change on top of another, with all of ``files`` or none; no bookmark moves."""
        resolved = await self._session.resolve_org(org)
        edits = None if files is None else tuple(files)
        body = NewChange(base_change_id, message, author, committer, edits)
        return await self._session.run(operations.create_change(resolved, repo, body))

    async def get(self, *, repo: str, change_id: str, org: str | None = None) -> ChangeDetail:
        resolved = await self._session.resolve_org(org)
        return await self._session.run(operations.get_change(resolved, repo, change_id))

    async def patch(
        self,
        *,
        repo: str,
        change_id: str,
        org: str | None = None,
        message: str | None = None,
        author: Author | None = None,
        committer: Author | None = None,
        files: Sequence[FileChange] | None = None,
        base_commit_oid: str | None = None,
    ) -> Change:
        """Rewrite a change. ``base_commit_oid`` makes it fail if the change has moved since."""
        resolved = await self._session.resolve_org(org)
        edits = None if files is None else tuple(files)
        body = ChangeUpdate(message, author, committer, edits, base_commit_oid)
        return await self._session.run(operations.update_change(resolved, repo, change_id, body))


class Content(Resource):
    """``mesa.content``."""

    async def get(
        self,
        *,
        repo: str,
        org: str | None = None,
        change_id: str | None = None,
        path: str | None = None,
        depth: int | None = None,
    ) -> ContentAnswer:
        """A file, symbolic link or directory; contents are base64."""
        resolved = await self._session.resolve_org(org)
        return await self._session.run(
            operations.get_content(resolved, repo, change_id=change_id, at=path, depth=depth)
        )

    async def read(
        self, *, repo: str, path: str, org: str | None = None, change_id: str | None = None
    ) -> bytes:
        """The bytes of a file themselves, whatever their size."""
        resolved = await self._session.resolve_org(org)
        return await self._session.run(
            operations.read_content(resolved, repo, change_id=change_id, at=path)
        )


class Diffs(Resource):
    """``mesa.diffs``."""

    async def get(
        self,
        *,
        repo: str,
        base_change_id: str,
        head_change_id: str,
        conflicts: str | None = None,
        org: str | None = None,
    ) -> Diff:
        resolved = await self._session.resolve_org(org)
        return await self._session.run(
            operations.get_diff(
                resolved,
                repo,
                base_change_id=base_change_id,
                head_change_id=head_change_id,
                conflicts=conflicts,
            )
        )
