"""Desired state as people write it: YAML documents, each one stored document with its ``kind``. Pure values.

A further kind is one line of ``KINDS``. Keys are no resources: they are made, shown once, and never come back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import yaml
from pydantic import ValidationError
from pydantic.json_schema import models_json_schema

from control_plane.alert_rules import RuleGroup
from control_plane.autoscale import Autoscale
from control_plane.delivery import Delivery
from control_plane.errors import Refused
from control_plane.model import ClientPolicy, ServicePolicy, Stored, Table, problems_of
from control_plane.receivers import Receiver

Place = tuple[Table, str]
MOST_PROBLEMS = 20
SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True)
class Kind:
    """What a kind of resource is stored as.

    Attributes:
        table: Its table.
        document: What lies there.
        name_field: The field that says whose it is.
        whole: A set that holds some of this kind and leaves out others that exist is refused, unless it is to prune.
    """

    table: Table
    document: type[Stored]
    name_field: str
    whole: bool = False


KINDS: Mapping[str, Kind] = {
    "Service": Kind(Table.SERVICES, ServicePolicy, "name", whole=True),
    "Client": Kind(Table.CLIENTS, ClientPolicy, "id"),
    "Delivery": Kind(Table.DELIVERY, Delivery, "service"),
    "AlertRules": Kind(Table.RULES, RuleGroup, "name"),
    "Autoscale": Kind(Table.AUTOSCALE, Autoscale, "service"),
    "Receiver": Kind(Table.RECEIVERS, Receiver, "name"),
}
KIND_OF: Mapping[Table, str] = {kind.table: name for name, kind in KINDS.items()}
VERSIONED = tuple(KIND_OF)
"""Tables whose content is kept in history and comes back by a rollback."""


@dataclass(frozen=True)
class Resource:
    """One document of a set.

    Attributes:
        kind: Its kind.
        document: What is to be stored.
        where: Where it was read, for messages: file and number of the document.
    """

    kind: str
    document: Stored
    where: str

    @property
    def place(self) -> Place:
        """Table and key it is stored under."""
        return KINDS[self.kind].table, self.document.key


def parse_files(files: Mapping[str, str]) -> tuple[Resource, ...]:
    """Read a set of files.

    Args:
        files: Text by name.

    Raises:
        Refused: Naming each wrong document by file, number and field, a line each.
    """
    found: list[tuple[str, object]] = []
    problems: list[str] = []
    for name, text in sorted(files.items()):
        try:
            found += ((f"{name}, document {n}", value) for n, value in _documents(text))
        except (yaml.YAMLError, RecursionError) as error:
            problems.append(f"{name}: {_yaml_problem(error)}")
    return _collected(found, problems)


def parse_values(values: Iterable[Mapping[str, object]]) -> tuple[Resource, ...]:
    """Check values that came as JSON; see :func:`parse_files`."""
    return _collected(((f"resources[{n}]", value) for n, value in enumerate(values)), [])


def _collected(found: Iterable[tuple[str, object]], problems: list[str]) -> tuple[Resource, ...]:
    resources: dict[Place, Resource] = {}
    for where, value in found:
        try:
            resource = _resource(value, where)
            if twin := resources.setdefault(resource.place, resource):
                _refuse_twin(resource, twin)
        except Refused as error:
            problems.append(str(error))
    if problems:
        more = [f"and {len(problems) - MOST_PROBLEMS} more"] if len(problems) > MOST_PROBLEMS else []
        raise Refused("\n".join(problems[:MOST_PROBLEMS] + more))
    return tuple(resources.values())


def _refuse_twin(resource: Resource, twin: Resource) -> None:
    if twin is not resource:
        name = f"{resource.kind} {resource.document.key}"
        raise Refused(f"{resource.where}: {name} stands in {twin.where} already; keep one of the two")


def _resource(value: object, where: str) -> Resource:
    if not isinstance(value, Mapping):
        raise Refused(f"{where}: not a resource but {_sort(value)}; write `kind: {'|'.join(KINDS)}` and its fields")
    name = value.get("kind")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None or not isinstance(name, str):
        said = "kind is missing" if "kind" not in value else f"kind {name!r} is unknown"
        raise Refused(f"{where}: {said}; kinds are {', '.join(KINDS)}")
    fields = {key: field for key, field in value.items() if key != "kind"}
    try:
        return Resource(name, kind.document.model_validate(fields), where)
    except ValidationError as error:
        whose = fields.get(kind.name_field, "")
        raise Refused(f"{where}, {name} {whose}".rstrip() + f": {_field_problems(error, name)}") from error


def _field_problems(error: ValidationError, kind: str) -> str:
    kinds = {problem["type"] for problem in error.errors(include_url=False)}
    numbers = (problem["input"] for problem in error.errors(include_url=False) if problem["type"] == "string_type")
    if any(isinstance(value, int | float) for value in numbers):
        return f"{problems_of(error)}; put it in quotes"
    if "extra_forbidden" in kinds:
        return f"{problems_of(error)}; `tekup schema {kind}` lists the fields"
    return f"{problems_of(error)}; see `tekup schema {kind}`"


def _sort(value: object) -> str:
    return {list: "a list", str: "a text", type(None): "nothing"}.get(type(value), f"a {type(value).__name__}")


class _Loader(yaml.CSafeLoader):
    """YAML as JSON means it: no dates, no `yes`, no base 60; nothing said twice, nothing by reference."""

    yaml_implicit_resolvers = {}  # noqa: RUF012

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        if node in self.constructed_objects:
            raise yaml.constructor.ConstructorError(
                None, None, "a reference (*) to another place; write it out", node.start_mark
            )
        return super().construct_object(node, deep=deep)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or not key.tag.endswith(":str"):
                raise yaml.constructor.ConstructorError(None, None, "a field name is not a text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value} is said twice; keep one of the two", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _documents(text: str) -> Iterator[tuple[int, object]]:
    """The documents of a text with their numbers, from 1; empty ones are left out."""
    for number, value in enumerate(yaml.load_all(text, Loader=_Loader), 1):
        if value is not None:
            yield number, value


def _yaml_problem(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deep; resources are flat"
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem


class _Dumper(yaml.CSafeDumper):
    """Whole numbers without a point, and no references."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


def _whole_float(dumper: yaml.CSafeDumper, value: float) -> yaml.Node:
    return dumper.represent_int(int(value)) if value.is_integer() else dumper.represent_float(value)


_Dumper.add_representer(float, _whole_float)

# The core schema of YAML 1.2; `1.10` is a number in it, which a version is not: pydantic then asks for quotes.
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    for _side in (_Loader, _Dumper):  # what is read as a number is quoted where it is a text
        _side.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def as_value(kind: str, document: Stored) -> dict[str, object]:
    """A document as a resource's value, every field written out, so that it means the same to later versions."""
    return {"kind": kind, **document.model_dump(mode="json")}


def ordered(documents: Mapping[Place, Stored]) -> list[dict[str, object]]:
    """Documents as resources: by kind, then by name."""
    return [
        as_value(name, documents[place])
        for name, kind in KINDS.items()
        for place in sorted(documents)
        if place[0] is kind.table
    ]


def render(values: Iterable[Mapping[str, object]]) -> str:
    """Resources as YAML, in the order given; the same values give the same bytes."""
    return yaml.dump_all(
        (dict(value) for value in values),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        explicit_start=True,
        width=78,
    )


def schema(only: str = "") -> dict[str, object]:
    """JSON Schema of a resource, made from the stored documents.

    Args:
        only: One kind; "" for all.

    Raises:
        Refused: There is no such kind.
    """
    if only and only not in KINDS:
        raise Refused(f"kind {only!r} is unknown; kinds are {', '.join(KINDS)}")
    names = [only] if only else [*KINDS]
    _, whole = models_json_schema([(KINDS[name].document, "validation") for name in names])
    shared = {name: _described(model) for name, model in whole["$defs"].items()}
    own = {name: _of_kind(name, shared.pop(KINDS[name].document.__name__)) for name in names}
    return {
        "$schema": SCHEMA_DIALECT,
        "title": only or "TekUp resource",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in names],
        "$defs": own | shared,
    }


def _described(model: dict[str, object]) -> dict[str, object]:
    """A model's schema with what its docstring says of each attribute at that property, where editors show it."""
    text, _, attributes = str(model.get("description", "")).partition("\n\nAttributes:\n")
    properties = model.get("properties")
    if not attributes or not isinstance(properties, dict):
        return model
    # An entry begins at the block's own indent; what is indented deeper goes on with it.
    entries = re.split(r"\n {4}(?=\S)", f"\n{attributes}")[1:]
    said = {name: " ".join(rest.split()) for name, _, rest in (entry.partition(":") for entry in entries)}
    described = {
        name: {**field, "description": said[name]} if name in said else field for name, field in properties.items()
    }
    return {**model, "description": text, "properties": described}


def _of_kind(name: str, model: dict[str, object]) -> dict[str, object]:
    properties, required = model["properties"], model.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        raise TypeError(f"the schema of {name} is not that of an object")
    said = {"const": name, "description": "What the document is."}
    return {**model, "title": name, "properties": {"kind": said, **properties}, "required": ["kind", *required]}
