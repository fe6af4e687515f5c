"""Every shape of the REST interface in one place, for those who need many of them."""

from __future__ import annotations

from mesafs.wire.api_keys import ApiKey, ApiKeyPage, CreatedApiKey, NewApiKey
from mesafs.wire.changes import (
    Author,
    Change,
    ChangeDetail,
    ChangePage,
    ChangeUpdate,
    FileChange,
    FileDelete,
    FileUpsert,
    NewChange,
)
from mesafs.wire.content import (
    Content,
    DirectoryContent,
    DirectoryEntry,
    Entry,
    FileContent,
    FileEntry,
    SymlinkContent,
    SymlinkEntry,
    content_from_json,
)
from mesafs.wire.diffs import (
    ConflictedEntry,
    ConflictHunk,
    ConflictSide,
    Diff,
    DiffEntry,
    DiffHunk,
    DiffLine,
    DiffStats,
)
from mesafs.wire.errors import ErrorDetail, ErrorEnvelope
from mesafs.wire.organisations import Organisation, OrganisationName, Success, Whoami
from mesafs.wire.repositories import (
    Bookmark,
    BookmarkPage,
    NewBookmark,
    NewRepo,
    Repo,
    RepoPage,
    RepoUpdate,
)

__all__ = [
    "ApiKey",
    "ApiKeyPage",
    "Author",
    "Bookmark",
    "BookmarkPage",
    "Change",
    "ChangeDetail",
    "ChangePage",
    "ChangeUpdate",
    "ConflictHunk",
    "ConflictSide",
    "ConflictedEntry",
    "Content",
    "CreatedApiKey",
    "Diff",
    "DiffEntry",
    "DiffHunk",
    "DiffLine",
    "DiffStats",
    "DirectoryContent",
    "DirectoryEntry",
    "Entry",
    "ErrorDetail",
    "ErrorEnvelope",
    "FileChange",
    "FileContent",
    "FileDelete",
    "FileEntry",
    "FileUpsert",
    "NewApiKey",
    "NewBookmark",
    "NewChange",
    "NewRepo",
    "Organisation",
    "OrganisationName",
    "Repo",
    "RepoPage",
    "RepoUpdate",
    "Success",
    "SymlinkContent",
    "SymlinkEntry",
    "Whoami",
    "content_from_json",
]
