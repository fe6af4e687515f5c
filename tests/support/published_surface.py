"""Every operation of the REST contract and every method of both published SDKs, with its state here.

``docs/compatibility.md`` shows the same to people, and a test holds them together. The names are
checked against the installed packages, so that none can be forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["works", "not yet"]


@dataclass(frozen=True)
class Operation:
    """One of the 32. Method names are ``namespace.method`` of an SDK; None where it has none."""

    call: str
    state: State
    rest: str
    python: str | None
    typescript: str | None

    @property
    def rest_typescript(self) -> str:
        head, *tail = self.rest.split("_")
        return head + "".join(word.capitalize() for word in tail)


OPERATIONS = (
    Operation("GET /whoami", "works", "whoami", "whoami", "whoami"),
    Operation("GET /{org}", "works", "get_org", "org.get", "org.get"),
    Operation("GET /{org}/api-keys", "works", "list_api_keys", "api_keys.list", "apiKeys.list"),
    Operation(
        "POST /{org}/api-keys", "works", "create_api_key", "api_keys.create", "apiKeys.create"
    ),
    Operation(
        "DELETE /{org}/api-keys/{id}",
        "works",
        "revoke_api_key",
        "api_keys.revoke",
        "apiKeys.revoke",
    ),
    Operation("PATCH /{org}/api-keys/{id}", "works", "update_api_key", None, None),
    Operation(
        "GET /{org}/webhook-targets",
        "not yet",
        "list_webhook_targets",
        "webhook_targets.list",
        "webhookTargets.list",
    ),
    Operation(
        "POST /{org}/webhook-targets",
        "not yet",
        "create_webhook_target",
        "webhook_targets.create",
        "webhookTargets.create",
    ),
    Operation("GET /{org}/webhook-targets/{id}", "not yet", "get_webhook_target", None, None),
    Operation(
        "PATCH /{org}/webhook-targets/{id}",
        "not yet",
        "update_webhook_target",
        "webhook_targets.update",
        "webhookTargets.update",
    ),
    Operation(
        "DELETE /{org}/webhook-targets/{id}",
        "not yet",
        "delete_webhook_target",
        "webhook_targets.delete",
        "webhookTargets.delete",
    ),
    Operation("GET /{org}/repos", "works", "list_repos", "repos.list", "repos.list"),
    Operation("POST /{org}/repos", "works", "create_repo", "repos.create", "repos.create"),
    Operation("PATCH /{org}/repos/tags", "not yet", "bulk_update_repo_tags", None, None),
    Operation("GET /{org}/{repo}", "works", "get_repo", "repos.get", "repos.get"),
    Operation("PATCH /{org}/{repo}", "works", "update_repo", "repos.update", "repos.update"),
    Operation("DELETE /{org}/{repo}", "works", "delete_repo", "repos.delete", "repos.delete"),
    Operation(
        "GET /{org}/{repo}/upstream/syncs",
        "not yet",
        "list_repo_upstream_syncs",
        "repos.list_upstream_syncs",
        "repos.listUpstreamSyncs",
    ),
    Operation(
        "POST /{org}/{repo}/upstream/syncs",
        "not yet",
        "sync_upstream",
        "repos.sync_upstream",
        "repos.syncUpstream",
    ),
    Operation(
        "GET /{org}/{repo}/upstream/syncs/{sync}",
        "not yet",
        "get_repo_upstream_sync",
        "repos.get_upstream_sync",
        "repos.getUpstreamSync",
    ),
    Operation("GET /{org}/{repo}/content", "works", "get_content", "content.get", "content.get"),
    Operation(
        "GET /{org}/{repo}/bookmarks",
        "works",
        "list_bookmarks",
        "bookmarks.list",
        "bookmarks.list",
    ),
    Operation(
        "POST /{org}/{repo}/bookmarks",
        "works",
        "create_bookmark",
        "bookmarks.create",
        "bookmarks.create",
    ),
    Operation(
        "POST /{org}/{repo}/bookmarks/merge",
        "not yet",
        "merge_bookmark",
        "bookmarks.merge",
        "bookmarks.merge",
    ),
    Operation(
        "GET /{org}/{repo}/bookmarks/{bookmark}",
        "works",
        "get_bookmark",
        "bookmarks.get",
        "bookmarks.get",
    ),
    Operation(
        "PATCH /{org}/{repo}/bookmarks/{bookmark}",
        "not yet",
        "move_bookmark",
        "bookmarks.move",
        "bookmarks.move",
    ),
    Operation(
        "DELETE /{org}/{repo}/bookmarks/{bookmark}",
        "not yet",
        "delete_bookmark",
        "bookmarks.delete",
        "bookmarks.delete",
    ),
    Operation("GET /{org}/{repo}/changes", "works", "list_changes", "changes.list", "changes.list"),
    Operation(
        "POST /{org}/{repo}/changes",
        "works",
        "create_change",
        "changes.create",
        "changes.create",
    ),
    Operation(
        "GET /{org}/{repo}/changes/{change}",
        "works",
        "get_change",
        "changes.get",
        "changes.get",
    ),
    Operation(
        "PATCH /{org}/{repo}/changes/{change}",
        "works",
        "update_change",
        "changes.patch",
        "changes.patch",
    ),
    Operation("GET /{org}/{repo}/diff", "works", "get_diff", "diffs.get", "diffs.get"),
)

#: Methods that are no operation of their own: signed or received locally, or over another protocol.
PYTHON_ONLY: dict[str, State] = {
    "resolve_org": "works",
    "tokens.create": "works",
    "webhook_targets.clear_repo_filter": "not yet",
    "webhooks.on": "not yet",
    "webhooks.receive": "not yet",
    "fs.mount": "not yet",
}
TYPESCRIPT_ONLY: dict[str, State] = {
    "resolveOrg": "works",
    "tokens.create": "works",
    "webhooks.on": "not yet",
    "webhooks.receive": "not yet",
    "fs.mount": "not yet",
}


def python_methods() -> dict[str, State]:
    own = {each.python: each.state for each in OPERATIONS if each.python is not None}
    return {**own, **PYTHON_ONLY}


def typescript_methods() -> dict[str, State]:
    own = {each.typescript: each.state for each in OPERATIONS if each.typescript is not None}
    return {**own, **TYPESCRIPT_ONLY}
