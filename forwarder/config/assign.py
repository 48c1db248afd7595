"""KEY=VALUE as verbs take it: `to+=freda@…`, lists by commas, `pull_hold.keep=7y`, `KEY=` removes.

What a key expects decides what the text becomes; a value that begins with `[` or `{` is TOML.
"""

from __future__ import annotations

import tomllib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from forwarder.config.lines import KEY_PARTS, key_path
from forwarder.config.tables import models_in

Operator = Literal["=", "+=", "-="]

INTEGER_DIGITS = 18
"""More are no whole number of TOML's 64 bits."""
_DATE = "0123456789"


@dataclass(frozen=True, slots=True)
class Assignment:
    """One KEY=VALUE. An empty value of `=` removes the key."""

    path: tuple[str, ...]
    operator: Operator
    text: str

    @property
    def key(self) -> str:
        return ".".join(self.path)


class BadAssignment(ValueError):
    """What was typed is no KEY=VALUE, or does not fit its key."""


def parse_assignment(text: str) -> Assignment:
    """`KEY=VALUE`, `KEY+=VALUE`, `KEY-=VALUE`; a part with dots in quotes. Raises BadAssignment."""
    try:
        path, at = key_path(text)
    except ValueError:
        raise BadAssignment(f"{text!r} is no KEY=VALUE") from None
    if len(path) > KEY_PARTS:
        raise BadAssignment(f"a key of over {KEY_PARTS} parts")
    for operator in typing.get_args(Operator):
        # `a-=b` reads as the key `a-`: TOML lets a bare key end in a mark
        if operator == "-=" or not text.startswith(operator, at):
            continue
        if operator == "=" and path[-1].endswith("-") and text[:at].rstrip().endswith("-"):
            return Assignment((*path[:-1], path[-1].removesuffix("-")), "-=", text[at + 1 :].strip())
        return Assignment(path, operator, text[at + len(operator) :].strip())
    raise BadAssignment(f"{text!r} is no KEY=VALUE: expected =, += or -= after the key")


def apply(table: Any, assignments: Iterable[Assignment], models: Mapping[str, type[BaseModel]], new_table: Any) -> None:
    """Carries out assignments in a table: a dictionary, or tomlkit's, which keeps comments.

    models: the model of the whole table under "", those of tables it does not know itself under their names.
    new_table: makes an empty table. Raises BadAssignment.
    """
    for assignment in assignments:
        inner = _reach(table, assignment, new_table)
        if inner is not None:
            _assign(inner, assignment, _expected(models, assignment.path))


def _reach(table: Any, assignment: Assignment, new_table: Any) -> Any:
    """The table that holds the key, made where it is missing; None where a removal finds nothing to remove."""
    for step in assignment.path[:-1]:
        if step not in table:
            if not assignment.text and assignment.operator == "=":
                return None
            table[step] = new_table()
        table = table[step]
        if not isinstance(table, dict):
            raise BadAssignment(f"{assignment.key}: {step} is no table")
    return table


def _assign(table: Any, assignment: Assignment, expected: str) -> None:
    key, text = assignment.path[-1], assignment.text
    if assignment.operator == "=":
        if text:
            table[key] = value_of(text, expected)
        else:
            table.pop(key, None)
        return
    here = table.get(key, [])
    if expected != "list" or not isinstance(here, list):
        raise BadAssignment(f"{assignment.key}: {assignment.operator} is for lists")
    for item in _listed(text):
        if assignment.operator == "+=" and item not in here:
            here.append(item)
        elif assignment.operator == "-=":
            if item not in here:
                raise BadAssignment(f"{assignment.key}: {item!r} is not among {', '.join(map(str, here)) or 'nothing'}")
            here.remove(item)
    if here:
        table[key] = here
    else:
        table.pop(key, None)


def value_of(text: str, expected: str) -> Any:
    """The TOML value of a text, for a key that expects a "list", "bool", "int", "date" or "text"."""
    if text[0] in "[{":
        return toml_value(text)
    if expected == "list":
        return _listed(text)
    if expected == "bool" and text in ("true", "false"):
        return text == "true"
    if expected == "int" and text.isascii() and text.isdigit() and len(text) <= INTEGER_DIGITS:
        return int(text)
    if expected == "date" and text[0] in _DATE:
        return toml_value(text)
    return toml_value(text) if len(text) > 1 and text[0] == text[-1] == '"' else text


def toml_value(text: str) -> Any:
    """One TOML value. Raises BadAssignment."""
    try:
        values = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError) as error:  # ValueError: also integers of thousands of digits
        raise BadAssignment(f"{text!r} is no TOML value: {error}") from None
    if list(values) != ["value"]:
        raise BadAssignment(f"{text!r} is more than one TOML value")
    return values["value"]


def _listed(text: str) -> list[Any]:
    if text.startswith("["):
        items: list[Any] = toml_value(text)
        return items
    return [item.strip() for item in text.split(",") if item.strip()]


def _expected(models: Mapping[str, type[BaseModel]], path: tuple[str, ...]) -> str:
    model: type[BaseModel] | None = models[""]
    for depth, step in enumerate(path):
        field = model.model_fields.get(step) if model is not None else None
        if field is None:
            model = models.get(step)
        elif depth == len(path) - 1:
            return _shape(field.annotation)
        else:
            model = next(models_in(field.annotation), models.get(step))
    return "text"


def _shape(annotation: Any) -> str:
    parts = set(_parts(annotation))
    for kind, shape in ((tuple, "list"), (list, "list"), (bool, "bool"), (int, "int"), (datetime, "date")):
        if kind in parts:
            return shape
    return "text"


def _parts(annotation: Any) -> Iterable[Any]:
    """The annotation itself, or the arms of a union; a list is a list whatever it holds."""
    origin = typing.get_origin(annotation)
    if origin in (tuple, list, dict):
        yield origin
    elif origin is not None and origin is not Literal:
        for argument in typing.get_args(annotation):
            yield from _parts(argument)
    else:
        yield annotation
