"""The base of every section of the settings: its keys, values and meanings, checked by pydantic."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import ArgsKwargs

from forecast.errors import ConfigError

# Of every section: the meaning of a setting is the docstring beneath it.
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


MOST = 2**20  # of any whole number among the settings; those that need less say so themselves


class Section:
    """One section of the settings; subclasses are frozen dataclasses of pydantic with `STRICT`.

    Attributes:
        SECTION: The key that it has in a configuration.
    """

    SECTION: ClassVar[str]

    def require(self, name: str, holds: bool, rule: str) -> None:
        """Refuses settings of which a rule does not hold; the setting to change is named.

        Raises:
            ConfigError: It does not.
        """
        if not holds:
            setting, value = f"{self.SECTION}.{name}", str(getattr(self, name))
            raise ConfigError(f"{setting} such that: {rule}", value, f"change {setting}")

    @model_validator(mode="wrap")
    @classmethod
    def _in_one_line(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """What code passes is refused here; what a file says, where the whole file is read."""
        try:
            made = handler(given)
            for name in cls.__pydantic_fields__:  # type: ignore[attr-defined]
                value = getattr(made, name)
                made.require(name, not isinstance(value, int) or value <= MOST, f"{MOST} at most")
            return made
        except ValidationError as error:
            if not isinstance(given, ArgsKwargs):
                raise
            first = error.errors()[0]
            where = ".".join(map(str, (cls.SECTION, *first["loc"])))
            got = repr(first["input"])
            raise ConfigError(f"{where}: {first['msg']}", got, f"change {where}") from error
