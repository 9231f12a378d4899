"""Every setting of a training run, as YAML that explains itself; made from the classes themselves.

Names, values and types come from :class:`forecast.config.config.Config` and what it is made of,
meanings from the ``Attributes`` of their docstrings, so that the listing is never behind the code.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from dataclasses import MISSING, fields
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from forecast.config.config import Config
from forecast.config.training import Stage

WIDTH = 88  # of a line with its explanation
HEAD = "What is left out keeps its default."


def annotated_yaml(config: Config) -> str:
    """A configuration with all its settings, each with type and meaning; it can be loaded again.

    Args:
        config: What to show. Values that are not the defaults say what these are.
    """
    lines = _comment(HEAD)
    hints, meanings, usual = get_type_hints(Config), meanings_of(Config), Config()
    for name in Config.model_fields:
        if name == "model" and config.detector is not None:
            continue  # a configuration has one of them
        lines += ["", *_comment(meanings[name])]
        value = getattr(config, name)
        if name == "curriculum":
            lines += [f"{name}:", *_stages(value)]
        elif hasattr(value, "__dataclass_fields__"):
            lines += [f"{name}:", *_indented(_section(value), 2)]
        else:
            lines.append(_line(name, value, hints[name], getattr(usual, name)))
    return "\n".join(lines) + "\n"


def meanings_of(kind: type[Any]) -> dict[str, str]:
    """What the docstring of a class says of its attributes, by name, in the words of YAML."""
    _, _, listed = inspect.cleandoc(kind.__doc__ or "").partition("\nAttributes:\n")
    entries = re.split(r"\n(?=\w)", textwrap.dedent(listed))
    pairs = (entry.partition(":") for entry in entries)
    return {name: _plain(text) for name, _, text in pairs if text}


def _plain(text: str) -> str:
    return re.sub(r"\bNone\b", "null", " ".join(text.split())).replace("``", "`")


def _section(part: Any) -> list[str]:
    """The settings of one dataclass, explained."""
    hints, meanings = get_type_hints(type(part)), meanings_of(type(part))
    lines: list[str] = []
    for field in fields(part):
        lines += _comment(meanings[field.name])
        value = getattr(part, field.name)
        lines.append(_line(field.name, value, hints[field.name], field.default))
    return lines


def _stages(stages: tuple[Stage, ...]) -> list[str]:
    """Stages in order; the first one is explained."""
    lines = ["  -", *_indented(_section(stages[0]), 4)]
    for stage in stages[1:]:
        values = {field.name: getattr(stage, field.name) for field in fields(stage)}
        lines.append(f"  - {_text(values)}")
    return lines


def _line(name: str, value: Any, hint: Any, default: Any) -> str:
    """A setting, its type, and its default where that is another value."""
    if default is MISSING:
        remark = ", must be given"
    else:
        remark = "" if value == default else f", default {_text(default)}"
    return f"{name}: {_text(value)}  # {_kind(hint)}{remark}"


def _kind(hint: Any) -> str:
    """What a value may be, in the words of YAML."""
    if get_origin(hint) is Literal:
        return " | ".join(map(str, get_args(hint)))
    if members := get_args(hint):
        return " | ".join(map(_kind, members))
    names = {bool: "true | false", int: "integer", float: "number", str: "text", NoneType: "null"}
    return names.get(hint, "section")


def _text(value: Any) -> str:
    """A value as YAML has it, on one line."""
    dumped = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000)
    return dumped.removesuffix("...\n").strip()


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, WIDTH - 2)]


def _indented(lines: list[str], by: int) -> list[str]:
    return [" " * by + line for line in lines]
