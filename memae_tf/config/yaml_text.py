"""Reads YAML, and refuses duplicate keys."""

from typing import Any

import yaml
from yaml.nodes import MappingNode


class DuplicateKeyError(Exception):
    """A mapping has a key twice; the message says which key, and where."""


class _Loader(yaml.SafeLoader):
    """A loader that refuses duplicate keys, of which PyYAML's own silently takes the last."""

    def compose_mapping_node(self, anchor: str | None) -> MappingNode:
        node = super().compose_mapping_node(anchor)
        lines = {}
        for key, _ in node.value:
            # A key that is not a scalar, such as a list, is refused later.
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                where = "" if line == 1 else f" (lines {lines[name]} and {line})"
                raise DuplicateKeyError(f"'{name}' is there twice{where}; delete one")
            lines[name] = line
        return node


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        DuplicateKeyError: If a mapping in it has a key twice.
        yaml.YAMLError: If it is not YAML.
    """
    try:
        return yaml.load(text, _Loader)
    except (ValueError, AttributeError, RecursionError) as error:
        # What PyYAML meets in dates that there are not, 0b_, and very deep lists.
        raise yaml.YAMLError(str(error)) from None
