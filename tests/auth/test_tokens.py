"""Access tokens: byte for byte the published vectors, and nothing that is only nearly a token."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mesafs.auth.api_keys import signing_secret
from mesafs.auth.scopes import names
from mesafs.auth.tokens import (
    Claims,
    FindKey,
    InvalidTtl,
    KeyFacts,
    KeyUnusable,
    TokenExpired,
    TokenRefused,
    looks_like_token,
    sign,
    verify,
)
from mesafs.model.ids import ApiKeyId

VECTORS = Path(__file__).parent / "vectors"
PYTHON = json.loads((VECTORS / "python.json").read_text())
TYPESCRIPT = json.loads((VECTORS / "typescript.json").read_text())

NOW = 1_767_225_600
JTI = "00000000-0000-4000-8000-000000000001"
KEY = "mesa_live_0123456789abcdefghijklmnopqrstuvwxyzABCDEF"
KEY_ID = ApiKeyId("key_01TESTVECTOR0000000000000")
FACTS = KeyFacts(KEY_ID, signing_secret(KEY))
HEADER: dict[str, Any] = {"alg": "HS256", "typ": "mesa-at+jwt", "kid": f"{KEY_ID}.v1"}
PAYLOAD: dict[str, Any] = {
    "scopes": ["read", "write"],
    "repos": None,
    "iss": KEY_ID,
    "aud": "mesa-api",
    "iat": NOW,
    "exp": NOW + 3600,
    "jti": JTI,
}


def known(*facts: KeyFacts) -> FindKey:
    return {each.id: each for each in facts}.get


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def forge(
    header: object = None,
    payload: object = None,
    *,
    secret: bytes = FACTS.signing_secret.encode(),
    digest: str = "sha256",
) -> str:
    """A correctly signed token of any content: dicts are encoded, text and bytes go in as they are."""
    signed = ".".join(
        b64(part if isinstance(part, bytes) else raw(part).encode())
        for part in (HEADER if header is None else header, PAYLOAD if payload is None else payload)
    )
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), digest))}"


def raw(part: object) -> str:
    return part if isinstance(part, str) else json.dumps(part, separators=(",", ":"))


def check(text: str, now: int = NOW) -> Claims:
    return verify(text, known(FACTS), now)


def refused(text: str, now: int = NOW) -> None:
    with pytest.raises(TokenRefused):
        check(text, now)


@pytest.mark.parametrize("vector", PYTHON[:6], ids=lambda vector: vector["name"])
def test_signing_gives_the_published_bytes(vector: dict[str, Any]) -> None:
    token = sign(
        key_id=vector["kid"],
        signing_secret=signing_secret(vector["key"]),
        scopes=vector["scopes"],
        repositories=vector["repos"],
        ttl_seconds=vector["ttl"] or 3600,
        now_seconds=NOW,
        jti=JTI,
    )

    assert token == vector["token"]


@pytest.mark.parametrize("vector", PYTHON + TYPESCRIPT, ids=lambda vector: vector["name"])
def test_tokens_of_both_published_clients_verify(vector: dict[str, Any]) -> None:
    facts = KeyFacts(ApiKeyId(vector["kid"]), signing_secret(vector["key"]))

    claims = verify(vector["token"], known(facts), NOW)

    assert claims.key_id == vector["kid"]
    assert claims.jti == JTI
    assert claims.repositories == (None if vector["repos"] is None else tuple(vector["repos"]))
    assert claims.repository_ids == (tuple(vector["repo_ids"]) if "repo_ids" in vector else None)
    if "secret" in vector:
        assert facts.signing_secret == vector["secret"]


@pytest.mark.parametrize("ttl", [0, -1, 86_401, True, 1.5, "60", None])
def test_signing_refuses_a_lifetime_that_no_server_accepts(ttl: Any) -> None:
    with pytest.raises(InvalidTtl, match="between 1 and 86400"):
        sign(
            key_id=KEY_ID,
            signing_secret=FACTS.signing_secret,
            scopes=["read"],
            repositories=None,
            ttl_seconds=ttl,
            now_seconds=NOW,
            jti=JTI,
        )


def test_a_forged_token_of_the_right_content_is_the_real_one() -> None:
    assert names(check(forge()).scopes) == ["read", "write"]
    assert looks_like_token(forge())
    assert not looks_like_token(KEY)


HEADERS: list[tuple[str, object]] = [
    *[
        (f"H-AUTH-01 alg {alg!r}", {**HEADER, "alg": alg})
        for alg in ("none", "None", "nOnE", "", None, "HS384", "HS512", "RS256", "ES256", ["HS256"])
    ],
    ("H-AUTH-01 alg lower case", {**HEADER, "alg": "hs256"}),
    ("H-AUTH-01 alg missing", {"typ": HEADER["typ"], "kid": HEADER["kid"]}),
    ("H-AUTH-03 typ missing", {"alg": HEADER["alg"], "kid": HEADER["kid"]}),
    *[
        (f"H-AUTH-03 typ {typ}", {**HEADER, "typ": typ})
        for typ in ("JWT", "mesa-at+JWT", "application/mesa-at+jwt", None)
    ],
    *[
        (f"H-AUTH-03 {name}", {**HEADER, name: value})
        for name, value in (("cty", "JWT"), ("crit", []), ("b64", False), ("zip", "DEF"))
    ],
    ("H-AUTH-04 kid missing", {"alg": HEADER["alg"], "typ": HEADER["typ"]}),
    *[
        (f"H-AUTH-04 kid {str(kid)[:30]!r}", {**HEADER, "kid": kid})
        for kid in (
            "../../etc/passwd.v1",
            "' OR 1=1 --.v1",
            "x.v1.v1",
            f"{KEY_ID}.v1.v1",
            ".v1",
            KEY_ID,
            f"{KEY_ID}.v2",
            f"{KEY_ID}.V1",
            f"{KEY_ID}.v1 ",
            f"{KEY_ID}\0.v1",
            f"{KEY_ID}.v1\n",
            [f"{KEY_ID}.v1"],
            None,
            "x" * (1 << 20) + ".v1",
            "key_other.v1",
        )
    ],
    *[
        (f"H-AUTH-05 {name}", {**HEADER, name: "http://127.0.0.1:9/keys"})
        for name in ("jku", "jwk", "x5u", "x5c")
    ],
    ("H-AUTH-06 alg twice", raw(HEADER).replace('{"alg"', '{"alg":"HS256","alg"')),
    ("H-AUTH-06 alg twice, escaped", raw(HEADER).replace('{"alg"', '{"\\u0061lg":"HS256","alg"')),
    ("H-AUTH-12 an array", [HEADER]),
    ("H-AUTH-12 text", '"HS256"'),
    ("H-AUTH-12 nothing", b""),
    ("H-AUTH-12 not JSON", b"{"),
    ("H-AUTH-12 UTF-16", raw(HEADER).encode("utf-16")),
    ("H-AUTH-12 UTF-8 with a mark", b"\xef\xbb\xbf" + raw(HEADER).encode()),
    ("H-AUTH-12 not UTF-8", b'{"alg":"\xff"}'),
]


@pytest.mark.parametrize("header", [item[1] for item in HEADERS], ids=[item[0] for item in HEADERS])
def test_a_header_that_is_not_exactly_ours_is_refused(header: object) -> None:
    refused(forge(header))


@pytest.mark.parametrize(
    "secret",
    [KEY.encode(), b"\x94\xfa\x64" * 10, b"", KEY_ID.encode(), b"A" * 43],
    ids=["raw key", "other bytes", "empty", "key id", "filler for unknown keys"],
)
def test_h_auth_02_a_signature_with_another_secret_is_refused(secret: bytes) -> None:
    refused(forge(secret=secret))


def test_h_auth_02_the_digest_itself_is_not_the_secret() -> None:
    from hashlib import sha256

    refused(forge(secret=sha256(KEY.encode()).digest()))


def test_h_auth_02_a_missing_or_partial_signature_is_refused() -> None:
    head, payload, _ = forge().split(".")

    refused(f"{head}.{payload}.")
    refused(
        f"{head}.{payload}."
        + b64(hmac.digest(FACTS.signing_secret.encode(), payload.encode(), "sha256"))
    )
    refused(forge(digest="sha512"))


def test_h_auth_04_an_unknown_key_is_asked_for_once_and_only_by_a_well_formed_id() -> None:
    asked: list[str] = []

    def find(key_id: ApiKeyId) -> KeyFacts | None:
        asked.append(key_id)
        return None

    for kid in ("../../etc/passwd.v1", "' OR 1=1 --.v1", "x" * 200 + ".v1", "key_unknown.v1"):
        with pytest.raises(TokenRefused):
            verify(forge({**HEADER, "kid": kid}), find, NOW)

    assert asked == ["key_unknown"]


def test_h_auth_04_the_id_of_another_key_does_not_borrow_its_power() -> None:
    other = KeyFacts(ApiKeyId("key_other"), signing_secret("mesa_live_other"))
    token = forge({**HEADER, "kid": "key_other.v1"})

    with pytest.raises(TokenRefused):
        verify(token, known(FACTS, other), NOW)


def replaced(**members: object) -> dict[str, Any]:
    return {**PAYLOAD, **members}


def without(name: str) -> dict[str, Any]:
    return {member: value for member, value in PAYLOAD.items() if member != name}


def spelled(name: str, literal: str) -> str:
    """The payload with one member's value spelled as given, which JSON libraries would not write."""
    return raw({**PAYLOAD, name: "@@"}).replace('"@@"', literal)


PAYLOADS: list[tuple[str, object]] = [
    *[
        (f"H-AUTH-06 {name} twice", raw(PAYLOAD)[:-1] + f',"{name}":{raw(PAYLOAD[name])}}}')
        for name in ("exp", "scopes", "repos", "aud")
    ],
    ("H-AUTH-06 exp twice, escaped", raw(PAYLOAD)[:-1] + f',"\\u0065xp":{NOW + 60}}}'),
    ("H-AUTH-07 exp missing", without("exp")),
    *[
        (f"H-AUTH-07 exp {literal}"[:40], spelled("exp", literal))
        for literal in (
            "null",
            '"9999999999"',
            f"{NOW + 60}.0",
            "1e12",
            "true",
            "-1",
            "0",
            str(1 << 63),
            "1" + "0" * 400,
            "NaN",
            "Infinity",
            str(NOW),
            str(NOW - 1),
            str(NOW + 86_401),
        )
    ],
    ("H-AUTH-07 exp before iat", replaced(iat=NOW + 30, exp=NOW + 20)),
    ("H-AUTH-08 iat missing", without("iat")),
    *[
        (f"H-AUTH-08 iat {literal}", spelled("iat", literal))
        for literal in ("-1", f"{NOW}.0", '"1"', "true", str(NOW + 61))
    ],
    ("H-AUTH-08 nbf", replaced(nbf=NOW + 1000)),
    ("H-AUTH-08 unknown member", replaced(only_from="10.0.0.1")),
    ("H-AUTH-09 aud array", replaced(aud=["mesa-api"])),
    ("H-AUTH-09 aud upper case", replaced(aud="MESA-API")),
    ("H-AUTH-09 aud missing", without("aud")),
    ("H-AUTH-09 iss of another", replaced(iss="key_other")),
    ("H-AUTH-09 iss missing", without("iss")),
    ("H-AUTH-09 jti missing", without("jti")),
    *[
        (f"H-AUTH-09 jti {str(jti)[:10]!r}", replaced(jti=jti))
        for jti in ("", 7, None, "\ud800", "x" * (1 << 20))
    ],
    ("H-AUTH-12 an array", [PAYLOAD]),
    ("H-AUTH-12 deep", spelled("jti", "[" * 1500 + "]" * 1500)),
    ("H-AUTH-12 deep 10,000", spelled("jti", "[" * 10_000 + "]" * 10_000)),
    ("H-AUTH-12 5,000 digits", spelled("exp", "9" * 5000)),
    ("H-AUTH-14 no repos member at all", without("repos")),
    *[
        (f"H-AUTH-14 repos {repos!r}", replaced(repos=repos))
        for repos in ("acme/app", {}, [None], [1], ["\ud800/app"], True, [["acme/app"]])
    ],
    ("H-AUTH-15 repo_ids text", replaced(repo_ids="repo_A")),
]


@pytest.mark.parametrize(
    "payload", [item[1] for item in PAYLOADS], ids=[item[0] for item in PAYLOADS]
)
def test_a_payload_that_is_not_exactly_as_agreed_is_refused(payload: object) -> None:
    refused(forge(payload=payload))


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(replaced(exp=NOW + 86_400), id="H-AUTH-07 a whole day"),
        pytest.param(replaced(iat=NOW + 59), id="H-AUTH-08 59 s ahead"),
        pytest.param(replaced(repo_ids=["repo_A"]), id="H-AUTH-15 both restrictions"),
    ],
)
def test_the_edge_of_what_is_allowed_is_accepted(payload: dict[str, Any]) -> None:
    assert check(forge(payload=payload)).key_id == KEY_ID


@pytest.mark.parametrize(
    "scopes",
    ["admin", "read admin", [["admin"]], ["ADMIN"], ["admin "], ["root"], None, {}, [1]],
    ids=lambda scopes: f"H-AUTH-13 {scopes!r}",
)
def test_scopes_that_are_not_a_list_of_known_names_grant_nothing(scopes: object) -> None:
    assert check(forge(payload=replaced(scopes=scopes))).scopes == frozenset()


def test_h_auth_13_missing_scopes_grant_nothing() -> None:
    assert check(forge(payload=without("scopes"))).scopes == frozenset()


def test_h_auth_07_a_token_dies_in_the_second_of_its_expiry() -> None:
    token = forge()

    assert check(token, NOW + 3599).jti == JTI
    with pytest.raises(TokenExpired) as caught:
        check(token, NOW + 3600)
    assert caught.value.expired_at_seconds == NOW + 3600


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize(
    "change",
    [
        lambda part: part + "=",
        lambda part: part + "==",
        lambda part: part[:3] + "+" + part[4:],
        lambda part: part[:3] + "/" + part[4:],
        lambda part: part[:5] + " " + part[5:],
        lambda part: part + "\n",
        lambda part: part[:5] + "!" + part[5:],
        lambda part: part[:5] + "é" + part[5:],
        lambda part: "",
        lambda part: part + "A",
        lambda part: part + "AAAA",
    ],
)
def test_h_auth_10_a_segment_in_any_other_spelling_is_refused(
    position: int, change: Callable[[str], str]
) -> None:
    parts = forge().split(".")
    parts[position] = change(parts[position])

    refused(".".join(parts))


def test_h_auth_11_spare_bits_of_the_last_letter_must_be_zero() -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    token = forge()
    last = alphabet.index(token[-1])
    assert last % 4 == 0

    for spare in (1, 2, 3):
        refused(token[:-1] + alphabet[last + spare])


@pytest.mark.parametrize("spaces", [0, 1, 2])
def test_h_auth_11_spare_bits_of_a_signed_segment_must_be_zero(spaces: int) -> None:
    # White space after the JSON shifts the padding, so that both kinds of spare bits occur. The
    # signature is made over the changed text, as an attacker with a key could.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    head = b64((raw(HEADER) + " " * spaces).encode())
    if len(head) % 4 == 0:
        return
    payload = b64(raw(PAYLOAD).encode())
    spoiled = head[:-1] + alphabet[alphabet.index(head[-1]) + 1]
    signed = f"{spoiled}.{payload}"

    refused(
        f"{signed}.{b64(hmac.digest(FACTS.signing_secret.encode(), signed.encode(), 'sha256'))}"
    )


@pytest.mark.parametrize(
    "text", ["", ".", "..", "...", "a", "a.b", "a.b.c.d", "." * 8192, "\0.\0.\0"]
)
def test_h_auth_12_text_with_another_number_of_segments_is_refused(text: str) -> None:
    refused(text)


def test_h_auth_12_a_token_over_eight_kibibytes_is_refused() -> None:
    def token_of(length: int) -> str:
        filler = length
        while len(token := forge(payload=replaced(repos=["x" * filler]))) > length:
            filler -= 1
        return token

    assert check(token_of(8192)).repositories is not None
    assert len(token_of(8194)) > 8192
    refused(token_of(8194))


def test_a_revoked_key_ends_its_tokens() -> None:
    with pytest.raises(KeyUnusable):
        verify(forge(), known(KeyFacts(KEY_ID, FACTS.signing_secret, revoked=True)), NOW)


def test_an_expired_key_ends_its_tokens_in_the_second_of_its_expiry() -> None:
    facts = KeyFacts(KEY_ID, FACTS.signing_secret, expires_at_seconds=NOW + 10)

    assert verify(forge(), known(facts), NOW + 9).jti == JTI
    with pytest.raises(KeyUnusable):
        verify(forge(), known(facts), NOW + 10)


def test_why_a_token_is_refused_is_not_told_to_whoever_could_not_have_signed_it() -> None:
    revoked = KeyFacts(KEY_ID, FACTS.signing_secret, revoked=True)

    with pytest.raises(TokenRefused) as caught:
        verify(forge(secret=b"guess"), known(revoked), NOW)

    assert str(caught.value) == "the access token is not valid"


def test_a_key_that_answers_for_another_id_is_refused() -> None:
    with pytest.raises(TokenRefused):
        verify(forge(), lambda _: KeyFacts(ApiKeyId("key_other"), FACTS.signing_secret), NOW)
