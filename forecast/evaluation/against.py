"""Is a forecast better than others of the same sequences, and how sure is that?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, Literal

import xarray as xr

from forecast.errors import DataError
from forecast.evaluation.agreement import DIGEST, moments
from forecast.evaluation.counts import Forecast
from forecast.evaluation.score_names import label_of, lower_is_better, unit_of
from forecast.evaluation.scores import Gain, Scope, defined, gains
from forecast.evaluation.scoring import Counted, Pair, count_stores, input_of, name_of
from forecast.model.spec import COMPONENTS, baseline_of
from forecast.parallel import Progress
from forecast.storage.identity import unchanged
from forecast.storage.stores import open_forecast_store

RollOut = Callable[[str, str, range, int], Iterator[Forecast]]
"""Forecasts sequences of a store: a baseline's name, the store's path, which ones, leads."""
Verdict = Literal["better", "worse", "not sure"]
REMEDY = "roll both out on the same store, equally far"


def is_baseline(name: str) -> bool:
    """Whether what is compared with is a baseline's name, not the path of a store."""
    return baseline_of(name) is not None


def reference_shown(name: str, attrs: Mapping[Any, Any] | None, read: str) -> str:
    """The model of another forecast, with its input mode where that is not ``read``.

    Args:
        name: What it was asked for by; without attributes, a baseline's.
        attrs: Of its store.
        read: What the forecast in question read of the history.
    """
    model, mode = name, "detected" if name == COMPONENTS else "tracked"
    if attrs is not None:
        model, mode = name_of(attrs), input_of(attrs)
    return model if mode == read else f"{model}, {mode} input"


@dataclass(frozen=True)
class Reference:
    """Another forecast of the same sequences.

    Attributes:
        model: Whose it is, with its input mode where that is another.
        scores: Class -> score -> its value.
        gains: Class -> score -> what the forecast in question has more than this one, where that
            says which is better.
        summary: Class -> a sentence on where it is better, and how sure that is.
    """

    model: str
    scores: dict[str, dict[str, float | None]]
    gains: dict[str, dict[str, Gain]]
    summary: dict[str, str]


@dataclass(frozen=True)
class ScoresAgainst:
    """A forecast's scores beside those of others.

    Attributes:
        scores: Its own: ``Scores``, or ``ProbabilityScores``.
        references: What it was compared with, by path or baseline's name.
    """

    scores: Scope
    references: dict[str, Reference]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, as of the scores alone and with ``against``."""
        others = {name: asdict(one) for name, one in self.references.items()}
        return self.scores.to_json() | {"against": others}


@dataclass(frozen=True)
class Compared(Generic[Counted]):
    """Several forecasts of the same sequences, counted.

    Attributes:
        pair: The forecast in question and its truth.
        own: Counted of it.
        others: Counted of the others, by path or baseline's name.
        models: Of the others, with their input mode where that is another.
    """

    pair: Pair[Counted]
    own: Counted
    others: dict[str, Counted]
    models: dict[str, str]

    def scores(self) -> ScoresAgainst:
        """The forecast's scores beside those of the others."""
        return ScoresAgainst(self.own.scores(**self.pair.provenance()), self._references())

    def named(self) -> dict[str, Counted]:
        """What was counted, by model, the forecast in question first; by path if models share."""
        own = name_of(self.pair.forecast.attrs) or self.pair.forecast_path
        models = [own, *self.models.values()]
        found = {own if models.count(own) < 2 else f"{own} ({self.pair.forecast_path})": self.own}
        for name, other in self.others.items():
            model = self.models[name]
            found[model if models.count(model) < 2 else f"{model} ({name})"] = other
        return found

    def _references(self) -> dict[str, Reference]:
        """What the forecast has more than each of the others."""
        headlines = self.own.headlines
        found = {}
        for name, other in self.others.items():
            sums = other.sums().sum(axis=0)
            more = {
                label: {s: gain for s, gain in one.items() if self.own.comparable(other, label, s)}
                for label, one in gains(self.own, other).items()
            }
            scores = {
                label: {score: defined(value) for score, value in other.values(sums[k]).items()}
                for k, label in enumerate(other.classes)
            }
            told = {
                label: summary(label, self.models[name], {s: one[s] for s in headlines if s in one})
                for label, one in more.items()
            }
            found[name] = Reference(self.models[name], scores, more, told)
        return found


def compare_stores(
    kind: type[Counted],
    forecast_path: str,
    data_path: str,
    against: Sequence[str],
    roll_out: RollOut,
    progress: Progress | None = None,
    workers: int = 1,
) -> Compared[Counted]:
    """Counts a forecast store and others of the same sequences, one after the other.

    Args:
        kind: What is counted.
        forecast_path: Local path or fsspec URL.
        data_path: The sequence store that holds what happened.
        against: Forecast stores, or names of baselines, which are rolled out and not stored.
        roll_out: Rolls baselines out.
        progress: Told (sequences done, sequences in all), of all forecasts together.
        workers: Processes that count stores; baselines are rolled out in this one.

    Raises:
        DataError: A store cannot be read, or is not of the same sequences, history and leads.
    """
    stores = [path for path in against if not is_baseline(path)]
    with unchanged(forecast_path, data_path, *stores):
        own = open_forecast_store(forecast_path)
        opened = {path: open_forecast_store(path) for path in stores}
        for path, other in opened.items():
            _check_comparable(own, other, forecast_path, path)
        parts = _Parts(progress, 1 + len(against))
        pair, mine = count_stores(kind, forecast_path, data_path, parts.next(), workers)
        others = {
            name: _count_baseline(pair, name, roll_out, parts.next())
            if is_baseline(name)
            else count_stores(kind, name, data_path, parts.next(), workers)[1]
            for name in against
        }
    read = input_of(own.attrs)
    attrs = {path: store.attrs for path, store in opened.items()}
    models = {name: reference_shown(name, attrs.get(name), read) for name in against}
    return Compared(pair, mine, others, models)


class _Parts:
    """Progress of several pieces of work of the same size as that of one."""

    def __init__(self, progress: Progress | None, parts: int) -> None:
        self._progress, self._parts, self._begun = progress, parts, 0

    def next(self) -> Progress | None:
        """The progress of the next piece."""
        before, report = self._begun, self._progress
        self._begun += 1
        if report is None:
            return None
        return lambda done, total: report(before * total + done, self._parts * total)


def _count_baseline(
    pair: Pair[Counted], name: str, roll_out: RollOut, progress: Progress | None
) -> Counted:
    counter, sequences = pair.counter(), range(pair.count)
    forecasts = roll_out(name, pair.data_path, sequences, pair.horizon)
    for truth, forecast in zip(pair.truths(sequences), forecasts, strict=True):
        counter.add(truth, forecast)
        if progress is not None:
            progress(counter.sequences, pair.count)
    return counter


def _check_comparable(own: xr.Dataset, other: xr.Dataset, path: str, other_path: str) -> None:
    """Refuses to compare forecasts of different sequences, histories or horizons."""
    for what, ours, theirs in (
        ("sequences", own.sizes["sequence"], other.sizes["sequence"]),
        ("leads", own.sizes["lead"], other.sizes["lead"]),
        ("frames of history", own.attrs.get("history"), other.attrs.get("history")),
    ):
        if ours != theirs:
            raise DataError(f"{ours} {what} as in {path}", f"{theirs} in {other_path}", REMEDY)
    if moments(own) != moments(other):
        raise DataError(f"the sequences of {path}", f"others in {other_path}", REMEDY)
    made_from, others = (store.attrs.get(DIGEST) for store in (own, other))
    if isinstance(made_from, dict) and isinstance(others, dict) and made_from != others:
        raise DataError(
            f"the history that {path} was made from",
            f"another in {other_path} (another centre or observation?)",
            REMEDY,
        )


def verdict(score: str, gain: Gain) -> Verdict:
    """Whether a difference is for the better, as far as its interval tells."""
    if not gain.sure:
        return "not sure"
    return "better" if gain.below == lower_is_better(score) else "worse"


def summary(label: str, model: str, found: Mapping[str, Gain]) -> str:
    """One sentence: where a forecast is better than another, and how sure that is.

    Args:
        label: The class.
        model: Of the other forecast.
        found: Score -> what the forecast has more than the other.
    """
    against = f"{label}, against {model}"
    if not found:
        return f"{against}: nothing to compare."
    parts = []
    for judged in ("better", "worse"):
        named = [_amount(name, one) for name, one in found.items() if verdict(name, one) == judged]
        parts += [f"{judged} in {_listed(named)}"] if named else []
    unsure = [name for name, one in found.items() if verdict(name, one) == "not sure"]
    if within := [label_of(name) for name in unsure if found[name].interval is not None]:
        parts.append(f"no difference beyond the interval in {_listed(within)}")
    if unknown := [label_of(name) for name in unsure if found[name].interval is None]:
        parts.append(f"not known, for want of an interval, in {_listed(unknown)}")
    return f"{against}: {'; '.join(parts)}."


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _amount(score: str, gain: Gain) -> str:
    """By how much one is above the other, whichever it is."""
    assert gain.interval is not None
    low, high = sorted(abs(end) for end in gain.interval)
    unit = unit_of(score)
    return f"{label_of(score)} by {abs(gain.difference):.3f}{unit} ({low:.3f} to {high:.3f}{unit})"
