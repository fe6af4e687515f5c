"""JSON for frozen dataclasses: a field is a member, its annotation says how to read and write it.

Reading is strict about what is there (a member of another type is an error that names it) and
tolerant of what is new (unknown members are skipped), because a client outlives many servers.
Supported annotations: ``str int float bool datetime Any``, another shape, ``Literal``, ``T | None``,
``tuple[T, ...]``, ``dict[str, T]`` and unions of shapes told apart by their ``type`` member.

Nothing is evaluated at import: a class's annotations are resolved at its first use.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from types import NoneType, UnionType
from typing import Any, Literal, Self, TypeVar, Union, get_args, get_origin, get_type_hints

from mesafs.base.errors import Unavailable

T = TypeVar("T")


class MalformedAnswer(Unavailable):
    """JSON that is not of the shape that was promised."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(
            f"the server's answer is not as agreed: {what}: {why}",
            hint="check that MESA_API_URL names a mesa server of a matching version",
        )


class Misfit(ValueError):
    """A value does not fit its annotation; ``where`` is the path to it."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where or 'the body'} {why}")
        self.where = where
        self.why = why


#: Metadata of a field whose member is left out, rather than null, when it is None.
OMITTED = {"omit": True}


class Shape:
    """Base of everything that travels as a JSON object. Holds no data of its own."""

    __slots__ = ()

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Read an answer, or raise :class:`MalformedAnswer`."""
        try:
            return read(cls, data)
        except Misfit as misfit:
            raise MalformedAnswer(cls.__name__, str(misfit)) from None

    def to_json(self) -> dict[str, Any]:
        return {
            field.name: _write(value)
            for field in dataclasses.fields(self)  # type: ignore[arg-type] # every shape is one
            if (value := getattr(self, field.name)) is not None or "omit" not in field.metadata
        }


def moment(now_ns: int) -> datetime:
    """Nanoseconds since the epoch as the time that a shape holds, to the millisecond it is sent in."""
    whole, rest = divmod(now_ns, 1_000_000_000)
    return datetime.fromtimestamp(whole, UTC).replace(microsecond=rest // 1_000_000 * 1000)


def read(cls: type[T], data: Any, where: str = "") -> T:
    """Read ``data`` into the shape ``cls``; :class:`Misfit` says where it does not fit."""
    if not isinstance(data, dict):
        raise Misfit(where, "is not an object")
    values: dict[str, Any] = {}
    for name, reader, required in _plan(cls):
        if name in data:
            values[name] = reader(data[name], f"{where}.{name}" if where else name)
        elif required:
            raise Misfit(f"{where}.{name}" if where else name, "is missing")
    return cls(**values)


Reader = Callable[[Any, str], Any]


def _plan(cls: Any) -> list[tuple[str, Reader, bool]]:
    """Name, reader and whether it is required, of each member; worked out once for each class."""
    if (plan := _PLANS.get(cls)) is None:
        plan = _PLANS[cls] = _make_plan(cls)
    return plan


_PLANS: dict[Any, list[tuple[str, Reader, bool]]] = {}


def _make_plan(cls: Any) -> list[tuple[str, Reader, bool]]:
    hints = get_type_hints(cls)
    return [
        (
            field.name,
            _reader(hints[field.name]),
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
        )
        for field in dataclasses.fields(cls)
        if field.init
    ]


def _reader(annotation: Any) -> Reader:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return lambda value, _: value
    if origin in (Union, UnionType):
        return _union(arguments)
    if origin is Literal:
        return _one_of(arguments)
    if origin is tuple:
        return _items(_reader(arguments[0]))
    if origin is dict:
        return _members(_reader(arguments[1]))
    if annotation is datetime:
        return _moment
    if annotation is float:
        return _plain((int, float), "a number")
    if annotation in _NAMES:
        return _plain((annotation,), _NAMES[annotation])
    return lambda value, where: read(annotation, value, where)


_NAMES: dict[Any, str] = {str: "text", int: "a whole number", bool: "true or false"}


def _plain(kinds: tuple[type, ...], name: str) -> Reader:
    def reader(value: Any, where: str) -> Any:
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise Misfit(where, f"is not {name}")
        return value

    return reader


def _one_of(choices: tuple[Any, ...]) -> Reader:
    def reader(value: Any, where: str) -> Any:
        if value not in choices:
            raise Misfit(where, f"is none of {', '.join(map(str, choices))}")
        return value

    return reader


def _items(item: Reader) -> Reader:
    def reader(value: Any, where: str) -> Any:
        if not isinstance(value, list):
            raise Misfit(where, "is not a list")
        return tuple(item(each, f"{where}[{index}]") for index, each in enumerate(value))

    return reader


def _members(member: Reader) -> Reader:
    def reader(value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise Misfit(where, "is not an object")
        return {name: member(each, f"{where}.{name}") for name, each in value.items()}

    return reader


def _union(choices: tuple[Any, ...]) -> Reader:
    others = [choice for choice in choices if choice is not NoneType]
    nullable = len(others) < len(choices)
    inner = _reader(others[0]) if len(others) == 1 else _by_type(others)

    def reader(value: Any, where: str) -> Any:
        return None if value is None and nullable else inner(value, where)

    return reader


def _by_type(choices: list[Any]) -> Reader:
    """Shapes of a union, told apart by the one value that each allows for ``type``."""
    by_type = {get_args(get_type_hints(choice)["type"])[0]: choice for choice in choices}

    def reader(value: Any, where: str) -> Any:
        kind = value.get("type") if isinstance(value, dict) else None
        if not isinstance(kind, str) or kind not in by_type:
            raise Misfit(where, f"has a type that is none of {', '.join(by_type)}")
        return read(by_type[kind], value, where)

    return reader


def _moment(value: Any, where: str) -> datetime:
    try:
        parsed = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise Misfit(where, "is not a time") from None
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)


def _write(value: Any) -> Any:
    if isinstance(value, Shape):
        return value.to_json()
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    if isinstance(value, tuple | list):
        return [_write(each) for each in value]
    if isinstance(value, dict):
        return {name: _write(each) for name, each in value.items()}
    return value
