"""Mistakes in a configuration, explained to users."""

import difflib
import types
import typing
from collections.abc import Sequence
from typing import Annotated, Union

from pydantic import BaseModel

from memae_tf.config.data import VideoData
from memae_tf.config.model import BaselineSection
from memae_tf.config.section import OF_VIDEO


def explain(schema: type[BaseModel], raw: dict, problem: dict) -> str:
    """Explains a problem that pydantic found: `dotted.key: what is wrong and what would be right`.

    Args:
        schema: What `raw` was validated by.
        raw: The whole configuration.
        problem: One of `pydantic.ValidationError.errors()`.
    """
    path, section = _locate(schema, problem["loc"])
    key = ".".join(path)
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{key}: unknown key{_suggest(schema, raw, path, section)}"
    if kind == "missing":
        return f"{key}: is required"
    if kind == "union_tag_not_found":
        return f"{key}.name: is required, one of {_tags(section, path)}"
    if kind == "union_tag_invalid":
        tag, expected = context["tag"], context["expected_tags"].replace("'", "")
        near = difflib.get_close_matches(tag, expected.split(", "), 1, 0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{key}.name: '{tag}' is not one of {expected}{hint}"
    if kind == "literal_error":
        return f"{key}: '{problem['input']}' is not one of {context['expected']}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"{key}: should be a section with keys of its own, got {problem['input']!r}"
    if kind == "path_type":
        return f"{key}: should be a path, got {problem['input']!r}"
    if kind == "value_error":
        # From our own validators. Those of the whole configuration name the keys themselves.
        return f"{key}: {context['error']}" if key else str(context["error"])
    message = problem["msg"][:1].lower() + problem["msg"][1:]
    return f"{key}: {message}, got {problem['input']!r}"


def of_another_kind(
    schema: type[BaseModel], section: str, before: dict, after: dict, keys: Sequence[str]
) -> str:
    """Explains that `section` still has `keys` of its kind `before`, which the new kind lacks."""
    old, new = before[section].get("name"), after[section]["name"]
    text = (
        f"{section} still has {', '.join(keys)}, which {old} has and {new} does not; "
        f"'{section}={{name: {new}}}' replaces the whole section"
    )
    if any(issubclass(kind, BaselineSection) for kind in _chosen(schema, after, section)):
        text += f" ({new} is a baseline, which memae_tf.benchmark runs and memae_tf.train does not)"
    return text


def _locate(schema: type[BaseModel], location: tuple) -> tuple[list[str], type[BaseModel] | None]:
    """The dotted key that a pydantic location means, as a list, and the section that it ends in.

    A pydantic location also has the tags of unions, which are no keys.
    """
    path, section = [], schema
    parts = list(location)
    while parts:
        part = str(parts.pop(0))
        path.append(part)
        if section is None or part not in section.model_fields:
            # Within a list, a plain value or a dict; or an unknown key of `section`.
            if section is not None and part not in section.model_fields:
                return path, section
            continue
        options = _sections(section.model_fields[part].annotation)
        if len(options) > 1 and parts:
            tag = parts.pop(0)
            section = next(o for o in options if tag in typing.get_args(_name_type(o)))
        elif len(options) == 1 and parts:
            section = options[0]
        elif parts:
            # The rest are keys of a dict, indices, or branches of a union of plain values.
            is_dict = typing.get_origin(section.model_fields[part].annotation) is dict
            path += [str(p) for p in parts if isinstance(p, int) or (is_dict and p != "[key]")]
            parts = []
    return path, section


def _sections(annotation) -> list[type[BaseModel]]:
    """The sections that a field's type allows."""
    if typing.get_origin(annotation) is Annotated:
        return _sections(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return [s for option in typing.get_args(annotation) for s in _sections(option)]
    if typing.get_origin(annotation) is not None:
        # list[...] or dict[...]: in Python 3.10, `isinstance(list[int], type)` is true.
        return []
    is_section = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return [annotation] if is_section else []


def _name_type(section: type[BaseModel]):
    return section.model_fields["name"].annotation


def _tags(section: type[BaseModel], path: list[str]) -> str:
    options = _sections(section.model_fields[path[-1]].annotation)
    return ", ".join(name for option in options for name in typing.get_args(_name_type(option)))


def _suggest(schema: type[BaseModel], raw: dict, path: list[str], section: type[BaseModel]) -> str:
    """A hint at the nearest known key: in the same section, else in the whole configuration."""
    prefix = ".".join([*path[:-1], ""])
    near = difflib.get_close_matches(path[-1], section.model_fields, 1, 0.6)
    if near:
        return f"; did you mean {prefix}{near[0]}?"
    is_video = any(issubclass(s, VideoData) for s in _chosen(schema, raw, "data"))
    elsewhere = [k for k in _all_keys(schema, raw, is_video) if k.split(".")[-1] == path[-1]]
    if elsewhere:
        return f"; did you mean {elsewhere[0]}?"
    return f"; {prefix[:-1] or 'the file'} may have {', '.join(section.model_fields)}"


def _chosen(schema: type[BaseModel], raw: dict, key: str) -> list[type[BaseModel]]:
    """The kinds of section that a field may have: the one its name chooses, or the only one."""
    if key not in schema.model_fields:
        return []
    sections = _sections(schema.model_fields[key].annotation)
    if len(sections) < 2:
        return sections
    value = raw.get(key)
    name = value.get("name") if isinstance(value, dict) else None
    return [section for section in sections if name in typing.get_args(_name_type(section))]


def _all_keys(schema: type[BaseModel], raw: object, is_video: bool, prefix: str = "") -> list[str]:
    """All dotted keys that the kinds of section chosen in `raw` may have."""
    raw = raw if isinstance(raw, dict) else {}
    keys = []
    for name, field in schema.model_fields.items():
        if OF_VIDEO in field.metadata and not is_video:
            continue
        keys.append(prefix + name)
        for section in _chosen(schema, raw, name):
            keys += _all_keys(section, raw.get(name), is_video, f"{prefix}{name}.")
    return keys
