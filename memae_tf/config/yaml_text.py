"""YAML as it is read here: what PyYAML reads, but for keys that stand twice."""

from typing import Any

import yaml
from yaml.nodes import MappingNode


class DuplicateKeyError(Exception):
    """A mapping has a key twice; the message says which one, and where."""


class _Loader(yaml.SafeLoader):
    """PyYAML's own takes the last of two equal keys and drops the first without a word."""

    def compose_mapping_node(self, anchor: str | None) -> MappingNode:
        node = super().compose_mapping_node(anchor)
        lines = {}
        for key, _ in node.value:
            # What is no plain text, a list for one, is refused as a key later.
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                where = "" if line == 1 else f" (lines {lines[name]} and {line})"
                raise DuplicateKeyError(f"'{name}' stands twice{where}, and only one can count")
            lines[name] = line
        return node


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        DuplicateKeyError: If a mapping in it has a key twice.
        yaml.YAMLError: If it is no YAML.
    """
    return yaml.load(text, _Loader)
