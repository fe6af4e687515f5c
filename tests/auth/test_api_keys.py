"""API keys: their form, and what a server keeps of them."""

from __future__ import annotations

import secrets
import subprocess
import sys

import pytest

from mesafs.auth import sealing
from mesafs.auth.api_keys import generate, key_id_of, signing_secret
from mesafs.model.ids import ApiKeyId

NOW_NS = 1_767_225_600 * 1_000_000_000


def test_a_key_carries_its_id() -> None:
    key = generate(NOW_NS, secrets.token_bytes)

    assert key_id_of(key.text) == key.id
    assert key.id.startswith("key_")
    assert len(key.text) == len("mesa_live_") + 26 + 1 + 43


def test_a_key_does_not_show_itself_when_printed() -> None:
    key = generate(NOW_NS, secrets.token_bytes)

    assert key.text not in repr(key)


def test_keys_sort_by_the_time_they_were_made() -> None:
    earlier = generate(NOW_NS, secrets.token_bytes)
    later = generate(NOW_NS + 1_000_000, secrets.token_bytes)

    assert earlier.id < later.id


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "\n",
        lambda text: text + " ",
        lambda text: " " + text,
        lambda text: text.upper(),
        lambda text: text[:-1],
        lambda text: text + "A",
        lambda text: text.replace("_", "\uff3f", 1),
        lambda text: text * 20_000,
        lambda text: "mk_0123456789",
    ],
)
def test_h_auth_24_text_of_another_form_has_no_key_id(change: object) -> None:
    key = generate(NOW_NS, secrets.token_bytes)
    assert callable(change)

    assert key_id_of(change(key.text)) is None


def test_the_secret_is_a_hash_of_the_utf8_text() -> None:
    assert signing_secret("mesa_ключ") == "9H-0ri_6JI71kANVVufPDvEnkEcAUPWBgXe-ApCsxus"


def test_a_key_text_that_is_not_unicode_still_has_a_digest() -> None:
    assert len(signing_secret("mesa_\udcff")) == 43


def test_h_auth_23_a_sealed_secret_opens_only_for_its_own_key_and_server() -> None:
    server, other = secrets.token_bytes(32), secrets.token_bytes(32)
    secret = signing_secret("mesa_live_x")
    sealed = sealing.seal(server, ApiKeyId("key_A"), secret, secrets.token_bytes)

    assert sealing.unseal(server, ApiKeyId("key_A"), sealed) == secret
    assert secret.encode() not in sealed
    for broken in (
        (server, "key_B", sealed),
        (other, "key_A", sealed),
        (server, "key_A", sealed[:-1]),
        (server, "key_A", b""),
        (server, "key_A", sealed[:-1] + bytes([sealed[-1] ^ 1])),
    ):
        with pytest.raises(sealing.SealBroken):
            sealing.unseal(broken[0], ApiKeyId(broken[1]), broken[2])


def test_h_auth_23_the_lookup_digest_differs_with_the_server_and_is_not_the_secret() -> None:
    secret = signing_secret("mesa_live_x")

    assert sealing.lookup(b"a" * 32, secret) != sealing.lookup(b"b" * 32, secret)
    assert sealing.lookup(b"a" * 32, secret) == sealing.lookup(b"a" * 32, secret)
    assert secret not in sealing.lookup(b"a" * 32, secret)


def test_signing_needs_no_third_party_package() -> None:
    program = (
        "import sys, mesafs.auth.api_keys, mesafs.auth.tokens, mesafs.auth.principals;"
        "print('cryptography' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "False"
