"""Tags of repositories and API keys: one rule for both."""

from __future__ import annotations

from collections.abc import Mapping

from mesafs.base.errors import Exhausted, Invalid

MAX_KEY_LENGTH = 64
MAX_VALUE_LENGTH = 256
MAX_TAGS = 100


def edited(tags: Mapping[str, str], edits: Mapping[str, str | None]) -> dict[str, str]:
    """``tags`` with ``edits`` applied: text sets, None removes, keys are lower-cased."""
    result = dict(tags)
    for name, value in edits.items():
        key = name.lower()
        if not 1 <= len(key) <= MAX_KEY_LENGTH:
            raise Invalid(f"the tag {name[:80]!r} must have 1 to {MAX_KEY_LENGTH} characters")
        if value is None:
            result.pop(key, None)
            continue
        if len(value) > MAX_VALUE_LENGTH:
            raise Invalid(f"the value of tag {key!r} is longer than {MAX_VALUE_LENGTH} characters")
        result[key] = value
    if len(result) > MAX_TAGS:
        raise Exhausted(f"there can be at most {MAX_TAGS} tags", hint="remove some of them")
    return result
