"""``/v1/whoami`` and ``/v1/{org}``."""

from __future__ import annotations

from starlette.responses import Response

from mesafs.auth.scopes import names
from mesafs.server.backing import Backing
from mesafs.server.http.answers import answer
from mesafs.server.http.queries import Query
from mesafs.server.http.routing import Access, Call, Route
from mesafs.server.services.organisations import Organisations
from mesafs.wire.organisations import Organisation, OrganisationName, Whoami
from mesafs.wire.shapes import moment


def routes(backing: Backing) -> list[Route]:
    organisations = Organisations(backing)

    def whoami(call: Call) -> Response:
        Query(call.request.scope["query_string"]).finish()
        caller = call.principal
        return answer(
            Whoami(
                OrganisationName(
                    caller.organisation, caller.organisation_slug, caller.organisation_name
                ),
                caller.key_id,
                caller.key_name,
                tuple(names(caller.scopes)),
            )
        )

    def get(call: Call) -> Response:
        Query(call.request.scope["query_string"]).finish()
        row, count = organisations.get(call.principal)
        return answer(Organisation(moment(row.created_ns), count))

    return [
        Route("GET", "/v1/whoami", "whoami", Access.ANY, whoami),
        Route("GET", "/v1/{org}", "getOrg", Access.READ, get),
    ]
