"""YAML as text with line numbers: what an inventory file needs of it, and nothing that can hurt.

Every scalar is text, so that ``name: 5``, ``name: no`` and ``2001:10:20:30:1:2:3:4`` mean what they
look like; an empty one is None.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import yaml

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_DEPTH = 16
_NULLS = ("", "~", "null")
Step = str | int


class YamlError(Exception):
    """A text that is not the YAML we take. ``line`` counts from 1, 0 where there is none."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason


class Lines(NamedTuple):
    """Where a value stands, and where its items do: by key for a mapping, by index for a list."""

    line: int
    items: dict[Step, Lines]

    def at(self, path: list[Step]) -> int:
        """Line of the value at ``path``, or of the innermost thing around it that is there."""
        here = self
        for step in path:
            here = here.items.get(step, here)
        return here.line


def parse(text: str) -> tuple[Any, Lines]:
    """The one document in ``text`` as dicts, lists, str and None, with the lines of everything.

    Raises YamlError.
    """
    try:
        loader = _Loader(text)
        try:
            return _document(loader)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(p for p in (error.context, error.problem) if p) or "not YAML"
        raise YamlError(
            mark.line + 1 if mark else 0, f"not YAML: {reason}; correct it or quote the value"
        ) from None
    except yaml.YAMLError as error:
        reason = str(getattr(error, "reason", "it cannot be read"))
        raise YamlError(0, f"not YAML: {reason}; write it as plain UTF-8 text") from None


def _document(loader: Any) -> tuple[Any, Lines]:
    loader.get_event()  # start of stream
    if loader.check_event(yaml.StreamEndEvent):
        return None, Lines(1, {})
    loader.get_event()  # start of document
    result = _value(loader, 0)
    loader.get_event()  # end of document
    if not loader.check_event(yaml.StreamEndEvent):
        line = loader.get_event().start_mark.line + 1
        raise YamlError(line, "a second document begins here; write one document")
    return result


def _value(loader: Any, depth: int) -> tuple[Any, Lines]:
    event = loader.get_event()
    line = event.start_mark.line + 1
    if depth > _MAX_DEPTH:
        raise YamlError(line, f"nested more than {_MAX_DEPTH} levels deep")
    if isinstance(event, yaml.AliasEvent):
        raise YamlError(line, f"the alias *{event.anchor} is not supported; write the value out")
    if event.tag not in (None, "!"):
        raise YamlError(line, f"the tag {event.tag} is not supported; leave it out")
    if isinstance(event, yaml.ScalarEvent):
        empty = event.implicit[0] and event.value in _NULLS
        return (None if empty else event.value), Lines(line, {})
    items: dict[Step, Lines] = {}
    if isinstance(event, yaml.SequenceStartEvent):
        values: list[Any] = []
        while not loader.check_event(yaml.SequenceEndEvent):
            value, items[len(values)] = _value(loader, depth + 1)
            values.append(value)
        loader.get_event()
        return values, Lines(line, items)
    mapping: dict[str, Any] = {}
    while not loader.check_event(yaml.MappingEndEvent):
        key, where = _value(loader, depth + 1)
        if not isinstance(key, str):
            raise YamlError(where.line, "a key must be text")
        if key in mapping:
            raise YamlError(where.line, f"{key} is there twice; keep one of them")
        value, lines = _value(loader, depth + 1)
        mapping[key] = value
        # An empty value is marked where the next thing begins: its key is where people look.
        items[key] = lines if value is not None else where
    loader.get_event()
    return mapping, Lines(line, items)
