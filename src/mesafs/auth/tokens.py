"""Access tokens: signed locally from an API key, verified by the server, dead when they expire.

A token is a compact JWS, HMAC-SHA256, keyed by the signing secret of its API key. Verification works
on the received bytes and never on a second encoding of them; every segment has exactly one accepted
spelling, and a member that this version does not know is refused, because it may have been meant as
a restriction. Nothing here reads a clock or stores anything.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn

from mesafs.auth.encoding import decode, encode
from mesafs.auth.scopes import Scopes, parse_claimed
from mesafs.base.errors import Invalid, Unauthenticated
from mesafs.model.ids import ApiKeyId

AUDIENCE = "mesa-api"
DEFAULT_TTL_SECONDS = 3600
MAX_TTL_SECONDS = 86_400
MAX_TOKEN_BYTES = 8192
CLOCK_SKEW_SECONDS = 60

_ALGORITHM = "HS256"
_TYPE = "mesa-at+jwt"
_HEADER_MEMBERS = frozenset({"alg", "typ", "kid"})
_PAYLOAD_MEMBERS = frozenset({"iss", "aud", "scopes", "repos", "repo_ids", "iat", "exp", "jti"})
_KID = re.compile(r"([A-Za-z0-9_.-]{1,128})\.v1")
_MAX_JTI_LENGTH = 256
# Verifying under an unknown key id costs the same HMAC as under a known one.
_NO_KEY_SECRET = "A" * 43


class InvalidTtl(Invalid):
    """A lifetime that no token may have."""

    def __init__(self) -> None:
        super().__init__(
            f"Token TTL must be an integer between 1 and {MAX_TTL_SECONDS} seconds",
            hint="a token lives at most a day; sign another when it ends",
        )


class TokenRefused(Unauthenticated):
    """Not a token that this server accepts. Why is told only to whoever could have signed it."""

    def __init__(
        self, message: str = "the access token is not valid", *, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint or "sign a new one with `mesa token create`")


class TokenExpired(TokenRefused):
    default_code: ClassVar[str | None] = "UNAUTHENTICATED"

    def __init__(self, expired_at_seconds: int) -> None:
        super().__init__("the access token has expired")
        self.expired_at_seconds = expired_at_seconds


class KeyUnusable(TokenRefused):
    """The token is genuine and its key is revoked or has expired, which ends all its tokens."""

    def __init__(self) -> None:
        super().__init__(
            "the API key of this access token is revoked or has expired",
            hint="create a new key with `mesa key create` and sign a token with it",
        )


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What verification needs to know of a key at this moment."""

    id: ApiKeyId
    signing_secret: str = field(repr=False)
    revoked: bool = False
    expires_at_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. It grants nothing until it is clamped by its key's grant.

    ``repositories`` are full ``org/repo`` names, ``repository_ids`` ids; None in either says "no
    restriction of this kind", an empty tuple says "no repository". When both restrict, both hold.
    """

    key_id: ApiKeyId
    scopes: Scopes
    repositories: tuple[str, ...] | None
    repository_ids: tuple[str, ...] | None
    issued_at_seconds: int
    expires_at_seconds: int
    jti: str


FindKey = Callable[[ApiKeyId], KeyFacts | None]


def sign(
    *,
    key_id: str,
    signing_secret: str,
    scopes: Iterable[str],
    repositories: Iterable[str] | None,
    ttl_seconds: int,
    now_seconds: int,
    jti: str,
) -> str:
    """Sign a token. Scopes and names are not checked: the server clamps whatever they say."""
    if type(ttl_seconds) is not int or not 1 <= ttl_seconds <= MAX_TTL_SECONDS:
        raise InvalidTtl
    header = {"alg": _ALGORITHM, "typ": _TYPE, "kid": f"{key_id}.v1"}
    payload = {
        "scopes": list(scopes),
        "repos": None if repositories is None else list(repositories),
        "iss": key_id,
        "aud": AUDIENCE,
        "iat": now_seconds,
        "exp": now_seconds + ttl_seconds,
        "jti": jti,
    }
    signed = f"{_segment(header)}.{_segment(payload)}"
    return f"{signed}.{encode(_signature(signing_secret, signed))}"


def looks_like_token(text: str) -> bool:
    """Whether a presented credential is to be read as a token rather than as a raw key."""
    return text.count(".") == 2


def verify(text: str, find_key: FindKey, now_seconds: int) -> Claims:
    """Check everything that makes a token genuine and current, or raise :class:`TokenRefused`.

    ``find_key`` is asked at most once, with a well-formed id, and must answer from the key's state
    now: a remembered answer would let revoked keys live on.
    """
    if len(text) > MAX_TOKEN_BYTES or not text.isascii():
        raise TokenRefused
    segments = text.split(".")
    if len(segments) != 3:
        raise TokenRefused
    key_id = _key_id(_json_object(segments[0]))
    key = find_key(key_id)
    expected = _signature(
        _NO_KEY_SECRET if key is None else key.signing_secret, f"{segments[0]}.{segments[1]}"
    )
    presented = decode(segments[2]) or b""
    genuine = hmac.compare_digest(presented, expected)
    if key is None or not genuine or key.id != key_id:
        raise TokenRefused
    claims = _claims(_json_object(segments[1]), key_id)
    _check_times(claims, now_seconds)
    if key.revoked or (
        key.expires_at_seconds is not None and now_seconds >= key.expires_at_seconds
    ):
        raise KeyUnusable
    return claims


def _segment(value: dict[str, Any]) -> str:
    return encode(json.dumps(value, separators=(",", ":")).encode())


def _signature(secret: str, signed: str) -> bytes:
    return hmac.digest(secret.encode("ascii"), signed.encode("ascii"), "sha256")


def _json_object(segment: str) -> dict[str, Any]:
    """A JSON object without repeated members, constants or floats, from a canonical segment."""
    raw = decode(segment)
    if not raw:
        raise TokenRefused
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_float=_refuse,
        )
    except (ValueError, RecursionError):
        raise TokenRefused from None
    if not isinstance(value, dict):
        raise TokenRefused
    return value


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is repeated")
    return members


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text[:20]} is not a whole number")


def _key_id(header: dict[str, Any]) -> ApiKeyId:
    kid = header.get("kid")
    if (
        header.keys() != _HEADER_MEMBERS
        or header["alg"] != _ALGORITHM
        or header["typ"] != _TYPE
        or not isinstance(kid, str)
        or (match := _KID.fullmatch(kid)) is None
    ):
        raise TokenRefused
    return ApiKeyId(match[1])


def _claims(payload: dict[str, Any], key_id: ApiKeyId) -> Claims:
    if (
        not payload.keys() <= _PAYLOAD_MEMBERS
        or payload.get("iss") != key_id
        or payload.get("aud") != AUDIENCE
        or not (payload.keys() & {"repos", "repo_ids"})
    ):
        raise TokenRefused
    return Claims(
        key_id=key_id,
        scopes=parse_claimed(payload.get("scopes")),
        repositories=_names(payload.get("repos")),
        repository_ids=_names(payload.get("repo_ids")),
        issued_at_seconds=_whole_seconds(payload.get("iat")),
        expires_at_seconds=_whole_seconds(payload.get("exp")),
        jti=_jti(payload.get("jti")),
    )


def _names(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(_is_text(name) for name in value):
        raise TokenRefused
    return tuple(value)


def _jti(value: object) -> str:
    if not isinstance(value, str) or not _is_text(value) or not 0 < len(value) <= _MAX_JTI_LENGTH:
        raise TokenRefused
    return value


def _is_text(value: object) -> bool:
    """Text that can be stored and compared: a lone surrogate, which JSON can spell, cannot."""
    return isinstance(value, str) and not any("\ud800" <= char <= "\udfff" for char in value)


def _whole_seconds(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TokenRefused
    return value


def _check_times(claims: Claims, now_seconds: int) -> None:
    lifetime = claims.expires_at_seconds - claims.issued_at_seconds
    if not 1 <= lifetime <= MAX_TTL_SECONDS:
        raise TokenRefused(f"an access token lives between 1 and {MAX_TTL_SECONDS} seconds")
    if claims.issued_at_seconds > now_seconds + CLOCK_SKEW_SECONDS:
        raise TokenRefused(
            "the access token was issued in the future",
            hint="set the clock of the machine that signs tokens",
        )
    if now_seconds >= claims.expires_at_seconds:
        raise TokenExpired(claims.expires_at_seconds)
