"""Every setting of a training run, as YAML that explains itself; made from the classes themselves.

Names, types, defaults and meanings are the fields that pydantic has made of the classes.
"""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from forecast.config.config import Config
from forecast.config.training import Stage
from forecast.section import Section

WIDTH = 88  # of a line with its explanation
HEAD = "What is left out keeps its default."


def annotated_yaml(config: Config) -> str:
    """A configuration with all its settings, each with type and meaning; it can be loaded again.

    Args:
        config: What to show. Values that are not the defaults say what these are.
    """
    lines = _comment(HEAD)
    for name, field in Config.model_fields.items():
        if name == "model" and config.detector is not None:
            continue  # a configuration has one of them
        lines += ["", *_comment(field.description)]
        value = getattr(config, name)
        if name == "curriculum":
            lines += [f"{name}:", *_stages(value)]
        elif isinstance(value, Section):
            lines += [f"{name}:", *_indented(_section(value), 2)]
        else:
            lines.append(_line(name, value, field))
    return "\n".join(lines) + "\n"


def _section(part: Any) -> list[str]:
    """The settings of one section, explained."""
    lines: list[str] = []
    for name, field in part.__pydantic_fields__.items():
        lines += [*_comment(field.description), _line(name, getattr(part, name), field)]
    return lines


def _stages(stages: tuple[Stage, ...]) -> list[str]:
    """Stages in order; the first one is explained."""
    lines = ["  -", *_indented(_section(stages[0]), 4)]
    for stage in stages[1:]:
        lines.append(f"  - {_text(stage)}")
    return lines


def _line(name: str, value: Any, field: FieldInfo) -> str:
    """A setting, its type, and its default where that is another value."""
    if field.is_required():
        remark = ", must be given"
    else:
        remark = "" if value == field.default else f", default {_text(field.default)}"
    return f"{name}: {_text(value)}  # {_kind(field.annotation)}{remark}"


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
    plain = asdict(value) if isinstance(value, Section) else value  # type: ignore[call-overload]
    dumped = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=1000)
    return dumped.removesuffix("...\n").strip()


def _comment(text: str | None) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text or "", WIDTH - 2)]


def _indented(lines: list[str], by: int) -> list[str]:
    return [" " * by + line for line in lines]
