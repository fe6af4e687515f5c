"""A versioned filesystem for agents that anyone can host.

``from mesafs import Mesa`` is the async client (needs httpx: ``mesafs[sdk]``), ``mesafs.sync.Mesa``
its blocking twin. Nothing is imported before it is asked for, so that the mount and the command line
stay on the standard library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesafs.base.errors import MesaError
    from mesafs.model.ids import ROOT_CHANGE as VIRTUAL_ROOT_CHANGE_ID
    from mesafs.sdk.client import Mesa
    from mesafs.sdk.errors import (
        ApiError,
        AuthenticationError,
        AuthorizationError,
        ConflictError,
        InvalidApiUrlError,
        InvalidOptionsError,
        MissingApiKeyError,
        MissingCredentialError,
        NotFoundError,
        OrgResolutionError,
        RateLimitError,
        ServerError,
        ValidationError,
    )
    from mesafs.sdk.session import TokenCreateResult
    from mesafs.version import __version__
    from mesafs.wire.changes import Author, FileChange, FileDelete, FileUpsert

_HOMES = {
    "mesafs.base.errors": ("MesaError",),
    "mesafs.sdk.client": ("Mesa",),
    "mesafs.sdk.errors": (
        "ApiError",
        "AuthenticationError",
        "AuthorizationError",
        "ConflictError",
        "InvalidApiUrlError",
        "InvalidOptionsError",
        "MissingApiKeyError",
        "MissingCredentialError",
        "NotFoundError",
        "OrgResolutionError",
        "RateLimitError",
        "ServerError",
        "ValidationError",
    ),
    "mesafs.sdk.session": ("TokenCreateResult",),
    "mesafs.version": ("__version__",),
    "mesafs.wire.changes": ("Author", "FileChange", "FileDelete", "FileUpsert"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "VIRTUAL_ROOT_CHANGE_ID",
    "ApiError",
    "AuthenticationError",
    "Author",
    "AuthorizationError",
    "ConflictError",
    "FileChange",
    "FileDelete",
    "FileUpsert",
    "InvalidApiUrlError",
    "InvalidOptionsError",
    "Mesa",
    "MesaError",
    "MissingApiKeyError",
    "MissingCredentialError",
    "NotFoundError",
    "OrgResolutionError",
    "RateLimitError",
    "ServerError",
    "TokenCreateResult",
    "ValidationError",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name == "VIRTUAL_ROOT_CHANGE_ID":
        return importlib.import_module("mesafs.model.ids").ROOT_CHANGE
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
