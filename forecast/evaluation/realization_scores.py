"""Scores of several futures of the same agents: made of sums, with intervals over scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.evaluation.counts import Forecast, Truth
from forecast.evaluation.realizations import (
    COLUMNS,
    NUMBERS,
    WHICH,
    Tally,
    count_realizations,
    curves_of,
)
from forecast.evaluation.scores import (
    Interval,
    SceneSums,
    Scope,
    defined,
    percentile_interval,
    ratio,
    resample,
    scores_by_lead,
)
from forecast.grid import BEVGrid

EVERY = "all classes"
"""The name under which stand the scores of all agents together, where there are several classes."""
MOVING = "_moving"
"""Ends the names of the scores of the agents that move."""
OF_AGENTS = {
    "min_ade": Tally.FORECAST_SO_FAR,
    "min_fde": Tally.FORECAST,
    "brier_min_fde": Tally.FORECAST,
    "energy": Tally.PAIRS,
    "energy_ratio": Tally.PAIRS,
    "min_ade_joint": Tally.FORECAST_SO_FAR,
    "min_fde_joint": Tally.FORECAST,
    "brier_min_fde_joint": Tally.FORECAST,
}
"""What distances are means over: those of two forecasts compare if both have as many agents."""
NOT_JUDGED = frozenset(
    {"displacement", "displacement_joint", "energy_joint", "energy_ratio_joint", "true_collisions"}
)
"""Scores of the truth and of the single forecast, and of the agents that all realizations have."""
CURVES = ("miss_rate", "miss_rate_2_m", "found")
"""The scores that are known of fewer realizations than there are."""


@dataclass(frozen=True)
class ClassRealizations:
    """Scores of one class's agents; None where there is nothing to score.

    Attributes:
        scores: At the last lead, or over all; see :meth:`RealizationAccumulator.values`.
        interval: 95 % bootstrap interval over scenes of each; None with one scene.
        by_lead: Score -> its value at each lead.
        interval_by_lead: Score -> its interval at each lead.
        by_number: ``realizations`` (how many, of those that there are) and, for each number, each
            of :data:`CURVES` at the last lead if so many are drawn from them.
        interval_by_number: Likewise, their intervals.
        counts: ``agents`` in the truth of the last lead and how many of them are ``forecast``, both
            of those that move too.
    """

    scores: dict[str, float | None]
    interval: dict[str, Interval]
    by_lead: dict[str, list[float | None]]
    interval_by_lead: dict[str, list[Interval]]
    by_number: dict[str, list[Any]]
    interval_by_number: dict[str, list[Interval]]
    counts: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class RealizationScores(Scope):
    """How good several futures of the agents are."""

    realizations: int
    classes: dict[str, ClassRealizations]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; the scores stand beside their intervals, as IoU does in ``Scores``."""
        flat = {name: one | one.pop("scores") for name, one in asdict(self)["classes"].items()}
        return super().to_json() | {"classes": flat}


class RealizationAccumulator(SceneSums):
    """Counts realizations against what happened, and scores them at any moment.

    A forecast without realizations is one.
    """

    columns = WHICH * COLUMNS
    reads = ("realization_pose", "realization_weight", "realization_instance")
    headlines = ("energy_moving", "miss_rate_moving", "found_moving", "min_fde_moving")

    def __init__(self, classes: Sequence[str], horizon: int, grid: BEVGrid) -> None:
        super().__init__((*classes, EVERY) if len(classes) > 1 else classes, horizon, grid)
        self.kinds = len(classes)
        self.realizations = 1

    def add(self, truth: Truth, forecast: Forecast) -> None:
        """Counts one sequence."""
        if forecast.realization_pose is not None:
            self.realizations = len(forecast.realization_pose)
        table = count_realizations(truth, forecast, self.kinds, self.grid)
        self.add_table(truth.scene, table[: len(self.classes)].reshape(*self._shape()))

    def _shape(self) -> tuple[int, int, int]:
        return len(self.classes), self.horizon, self.columns

    def counted(self) -> dict[str, Any]:
        """What was counted so far, as plain JSON values."""
        return super().counted() | {"realizations": self.realizations}

    def merge(self, counted: Mapping[str, Any]) -> None:
        """Adds what another one counted."""
        super().merge(counted)
        self.realizations = max(self.realizations, counted["realizations"])

    @staticmethod
    def values(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """The scores of one class, from ``(..., leads, columns)``.

        Those of the energy score and the displacement beside it are means over agents and leads,
        the others are at the last lead (``min_ade`` and collisions: up to it).
        """
        which = sums.reshape(*sums.shape[:-1], WHICH, COLUMNS)
        every, moving = (_values(which[..., place, :]) for place in range(WHICH))
        return every | {name + MOVING: value for name, value in moving.items()}

    def comparable(self, other: SceneSums, label: str, score: str) -> bool:
        """Distances of other agents do not compare: the easier ones are not a better forecast."""
        plain = score.removesuffix(MOVING)
        if plain not in OF_AGENTS:
            return plain not in NOT_JUDGED
        place, whole = (WHICH - 1) * (plain != score), self.classes.index(label)
        numbers = [
            sums.sums().sum(axis=0)[whole].reshape(-1, WHICH, COLUMNS)[:, place, OF_AGENTS[plain]]
            for sums in (self, other)
        ]
        return bool((numbers[0] == numbers[1]).all())

    def scores(self, **provenance: Any) -> RealizationScores:
        """The scores so far; ``provenance`` fills in protocol, model, data and so on."""
        classes = {name: _class_scores(self, name) for name in self.classes}
        return RealizationScores(
            realizations=self.realizations,
            classes=classes,
            sequences=self.sequences,
            scenes=len(self.sums()),
            horizon=self.horizon,
            **provenance,
        )


def _values(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """The scores of all agents, or of those that move, from ``(..., leads, COLUMNS)``."""
    last, total = sums[..., -1, :], sums.sum(axis=-2)

    def share(part: Tally, whole: Tally, table: NDArray[np.float64] = last) -> NDArray[np.float64]:
        return ratio(table[..., part], table[..., whole])

    return {
        "min_ade": share(Tally.MIN_ADE, Tally.FORECAST_SO_FAR),
        "min_fde": share(Tally.MIN_FDE, Tally.FORECAST),
        "brier_min_fde": share(Tally.BRIER_MIN_FDE, Tally.FORECAST),
        "miss_rate": share(Tally.MISSED, Tally.BOXED),
        "miss_rate_2_m": share(Tally.MISSED_2_M, Tally.AGENTS),
        "found": share(Tally.FOUND, Tally.BOXED),
        "energy": share(Tally.ENERGY, Tally.PAIRS, total),
        "displacement": share(Tally.DISPLACEMENT, Tally.PAIRS, total),
        "energy_ratio": share(Tally.ENERGY, Tally.DISPLACEMENT, total),
        "min_ade_joint": share(Tally.JOINT_MIN_ADE, Tally.SCENES_SO_FAR),
        "min_fde_joint": share(Tally.JOINT_MIN_FDE, Tally.SCENES),
        "brier_min_fde_joint": share(Tally.JOINT_BRIER_MIN_FDE, Tally.SCENES),
        "miss_rate_joint": share(Tally.JOINT_MISSED, Tally.BOXED_SCENES),
        "miss_rate_2_m_joint": share(Tally.JOINT_MISSED_2_M, Tally.AGENTS),
        "energy_joint": share(Tally.JOINT_ENERGY, Tally.JOINT_PAIRS, total),
        "displacement_joint": share(Tally.JOINT_DISPLACEMENT, Tally.JOINT_PAIRS, total),
        "energy_ratio_joint": share(Tally.JOINT_ENERGY, Tally.JOINT_DISPLACEMENT, total),
        "collisions": share(Tally.COLLISIONS, Tally.SHARED_SCENES),
        "true_collisions": share(Tally.TRUE_COLLISIONS, Tally.SHARED_SCENES),
        "mask_distance": share(Tally.MASK_DISTANCE, Tally.MASK_SCENES),
    }


def _class_scores(counted: RealizationAccumulator, label: str) -> ClassRealizations:
    sums = counted.sums()[:, counted.classes.index(label)]
    total, by_lead = sums.sum(axis=0), scores_by_lead(counted, label)
    draws = resample(sums) if len(sums) > 1 else None
    drawn = {} if draws is None else counted.values(draws)
    scores = {name: defined(value) for name, value in counted.values(total).items()}
    curves = _curves(total)
    drawn_curves = {} if draws is None else _curves(draws)
    numbers = [place for place, number in enumerate(NUMBERS) if number <= counted.realizations]
    which = total[-1].reshape(WHICH, COLUMNS)
    counts = {
        f"{name}{ending}": int(which[place, column])
        for place, ending in enumerate(("", MOVING))
        for name, column in (("agents", Tally.AGENTS), ("forecast", Tally.FORECAST))
    }
    return ClassRealizations(
        scores=scores,
        interval={name: percentile_interval(drawn.get(name)) for name in scores},
        by_lead=by_lead[0],
        interval_by_lead=by_lead[1],
        by_number={"realizations": [NUMBERS[place] for place in numbers]}
        | {name: [defined(one[place]) for place in numbers] for name, one in curves.items()},
        interval_by_number={
            name: [
                percentile_interval(drawn_curves[name][:, place] if drawn_curves else None)
                for place in numbers
            ]
            for name in curves
        },
        counts=counts,
    )


def _curves(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Each of :data:`CURVES` at the last lead, ``(..., len(NUMBERS))``, from those of one class."""
    last = sums[..., -1, :].reshape(*sums.shape[:-2], WHICH, COLUMNS)
    found = {}
    for place, ending in enumerate(("", MOVING)):
        table = last[..., place, :]
        for curve, name in enumerate(CURVES):
            of = Tally.AGENTS if name == "miss_rate_2_m" else Tally.BOXED
            counted = np.broadcast_to(table[..., of, None], (*table.shape[:-1], len(NUMBERS)))
            found[name + ending] = ratio(curves_of(table)[..., curve, :], counted)
    return found
