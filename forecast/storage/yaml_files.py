"""YAML from unknown sources: files, and values on the command line."""

from __future__ import annotations

from itertools import chain
from typing import Any

import yaml

from forecast.errors import ConfigError, reason_of
from forecast.storage.files import refuse_pipe

MAX_BYTES = 2**18
MAX_NODES = 100_000
MAX_DIGITS = 1000  # Python prints no whole number of more than 4300


class _Loader(yaml.SafeLoader):
    """Loads plain values; aliases cannot make a small file stand for a large one.

    An alias is another name of a node, so that a few lines of aliases of aliases stand for
    billions of nodes. They cost nothing until somebody goes through them all, as merging (``<<``),
    checking and printing do.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """A node, once it is known how many it stands for."""
        alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if node is not None and not alias:
            self._sizes[node] = self._size(node)
        return node

    def _size(self, node: yaml.Node) -> int:
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:int":
            if len(node.value) > MAX_DIGITS:
                raise yaml.YAMLError(f"a number of more than {MAX_DIGITS} digits")
        elif isinstance(node, yaml.MappingNode):
            parts = list(chain.from_iterable(node.value))
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        # A part without a size is around this node: an alias that stands for itself.
        size = 1 + sum(self._sizes.get(part, MAX_NODES) for part in parts)
        if size > MAX_NODES:
            raise yaml.YAMLError(f"more than {MAX_NODES} values, aliases counted")
        return size


def parse_yaml(text: str) -> Any:
    """The value that a text stands for.

    Raises:
        ValueError: It is no YAML, is nested or repeated beyond reason, or has a tag, a date or a
            number that is none.
    """
    try:
        return yaml.load(text, _Loader)
    # A tag that its value does not fit, such as `!!timestamp soon`, raises whatever there is.
    except (
        *(yaml.YAMLError, RecursionError, ValueError, TypeError),
        *(AttributeError, LookupError, ArithmeticError),
    ) as error:
        raise ValueError(reason_of(error)) from error


def read_yaml(path: str) -> dict[str, Any]:
    """The mapping that a local YAML file holds.

    Raises:
        ConfigError: The file is missing, no YAML, larger, deeper or more repetitive than any of
            settings, or holds something else.
        DataError: It is a pipe or device.
    """
    refuse_pipe(path)
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes")
        settings = parse_yaml(content.decode())
    except (OSError, ValueError) as error:  # ValueError: of text that is no UTF-8, too
        raise ConfigError(
            "a YAML file", f"{path} ({reason_of(error)})", "check the path and what is there"
        ) from error
    if not isinstance(settings, dict):
        raise ConfigError("a YAML mapping", f"{path} with {type(settings).__name__}", "correct it")
    return settings
