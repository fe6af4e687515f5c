"""Operations of the contract that this version does not have yet: said so, never pretended.

A caller needs the operation's grant before it is told; bodies are not read.
"""

from __future__ import annotations

from starlette.responses import Response

from mesafs.server.http.routing import Access, Call, Route
from mesafs.server.unsupported import Unsupported

_MISSING = (
    ("GET", "/v1/{org}/webhook-targets", "listWebhookTargets", Access.ADMIN),
    ("POST", "/v1/{org}/webhook-targets", "createWebhookTarget", Access.ADMIN),
    ("GET", "/v1/{org}/webhook-targets/{id}", "getWebhookTarget", Access.ADMIN),
    ("PATCH", "/v1/{org}/webhook-targets/{id}", "updateWebhookTarget", Access.ADMIN),
    ("DELETE", "/v1/{org}/webhook-targets/{id}", "deleteWebhookTarget", Access.ADMIN),
    ("PATCH", "/v1/{org}/repos/tags", "bulkUpdateRepoTags", Access.WRITE),
    ("GET", "/v1/{org}/{repo}/upstream/syncs", "listUpstreamSyncs", Access.READ),
    ("POST", "/v1/{org}/{repo}/upstream/syncs", "syncUpstream", Access.WRITE),
    ("GET", "/v1/{org}/{repo}/upstream/syncs/{sync}", "getUpstreamSync", Access.READ),
    ("POST", "/v1/{org}/{repo}/bookmarks/merge", "mergeBookmark", Access.WRITE),
    ("PATCH", "/v1/{org}/{repo}/bookmarks/{bookmark}", "moveBookmark", Access.WRITE),
    ("DELETE", "/v1/{org}/{repo}/bookmarks/{bookmark}", "deleteBookmark", Access.WRITE),
)


def routes() -> list[Route]:
    return [
        Route(method, path, operation, access, _refuse)
        for method, path, operation, access in _MISSING
    ]


def _refuse(call: Call) -> Response:
    raise Unsupported(call.route.operation)
