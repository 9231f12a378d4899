"""The errors that a user may meet, each one line: what was expected, what was got, what to do."""


class ForecastError(Exception):
    """Base of every error that the program raises on purpose.

    Args:
        expected: What a correct input would have been, e.g. "a zarr store with schema X".
        got: What was found instead, with the path or name at fault.
        remedy: What the user can do about it, in the imperative.
    """

    def __init__(self, expected: str, got: str, remedy: str) -> None:
        # The three parts are the exception's args, so that it survives pickling between workers.
        super().__init__(expected, got, remedy)
        self.expected = expected
        self.got = got
        self.remedy = remedy

    def __str__(self) -> str:
        return f"expected {self.expected}; got {self.got}; {self.remedy}"


class DataError(ForecastError):
    """A recording, store or frame that cannot be read as what it should be."""


class PassingError(ForecastError):
    """A failure of the machine or of a network: the data are not at fault, try again."""


class ConfigError(ForecastError):
    """A setting that is unknown, out of range or contradicts another."""


class CheckpointError(ForecastError):
    """A checkpoint that is damaged, or of another model."""


class TrainingError(ForecastError):
    """Training that went wrong, such as a loss that is not finite."""


class ParityError(ForecastError):
    """Exported graphs that say something else than the forecaster."""


STORE_CLIENTS = ("aiohttp", "azure", "botocore", "gcsfs", "google")
"""Packages behind fsspec: their errors, no ``OSError``, say that a store does not answer."""


def reason_of(error: BaseException) -> str:
    """The first line of what an error says, or its type where it says nothing."""
    lines = filter(None, map(str.strip, str(error).splitlines()))
    return next(lines, type(error).__name__)


def counted(count: int, noun: str) -> str:
    """A number of things: ``1 scene``, ``2 scenes``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


MOST = {"horizon": 10_000, "history": 10_000, "batch_size": 65_536, "workers": 1_024}
"""The largest values of counts that take memory or processes."""


def check_counts(**options: int | None) -> None:
    """Refuses counts below one, or beyond what any machine has, before anything slow is loaded."""
    for name, value in options.items():
        option, most = "--" + name.replace("_", "-"), MOST.get(name, 2**31 - 1)
        if value is not None and not 1 <= value <= most:
            wanted = "of at least 1" if value < 1 else f"of at most {most}"
            raise ConfigError(f"{option} {wanted}", str(value), f"change {option}")
