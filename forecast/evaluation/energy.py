"""The fair energy score: how far several forecasts are from the truth, less how far apart they are.

Of one forecast it is its distance from the truth. Of several drawn from one distribution it is, on
average, the same however many they are, and least if the truth is drawn from that distribution too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def energy_scores(
    places: NDArray[np.float64],
    truth: NDArray[np.float64],
    weight: NDArray[np.float64],
    groups: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The score of each agent by itself, and of each group of agents as one.

    Args:
        places: ``(K, L, N, 2)`` metres, of K realizations, L leads and N agents; NaN = not there.
        truth: ``(L, N, 2)`` metres; NaN = not there.
        weight: ``(K,)`` of each realization; they add up to 1.
        groups: ``(N, G)`` who belongs to which group.

    Returns:
        ``(L, N)`` metres, over the realizations in which the agent is there, NaN where there is
        none; and ``(L, G)`` metres, of the agents that are there in all realizations and the truth:
        the distance of two scenes is the root mean square of those of the agents, NaN = no agent.

    Source:
        Gneiting and Raftery, Strictly Proper Scoring Rules, Prediction, and Estimation, JASA 2007;
        fair: Ferro, Fair scores for ensemble forecasts, QJRMS 2014. Weights w that differ make of
        1 / K the sum of w^2.
    """
    there = np.isfinite(places).all(axis=-1) & np.isfinite(truth).all(axis=-1)
    share = weight[:, None, None] * there
    with np.errstate(invalid="ignore"):  # NaN where an agent is in no realization
        share = share / share.sum(axis=0)
    whole = there.all(axis=0)
    size = (whole @ groups.astype(np.float64)).clip(1)
    every = np.broadcast_to(weight[:, None, None], (len(weight), *size.shape))
    agents, scenes = np.zeros(truth.shape[:2]), np.zeros(size.shape)
    spread = np.zeros_like(agents), np.zeros_like(scenes)
    for shift in range(len(places)):
        # Shift 0 compares each realization with the truth, shift s with the s-th one after it.
        other = truth if shift == 0 else places[shift:]
        apart = np.square(places[: len(places) - shift] - other).sum(axis=-1)
        scene = np.sqrt(np.where(whole, apart, 0.0) @ groups.astype(np.float64) / size)
        apart = np.sqrt(np.nan_to_num(apart))
        if shift == 0:
            agents, scenes = (share * apart).sum(axis=0), (every * scene).sum(axis=0)
            continue
        for total, w, distance in zip(spread, (share, every), (apart, scene), strict=True):
            total += (w[:-shift] * w[shift:] * distance).sum(axis=0)
    agents = agents - spread[0] * _fair(share)
    return agents, np.where(whole @ groups, scenes - spread[1] * _fair(every), np.nan)


def _fair(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """By what pairs are multiplied, so that each realization is not compared with itself too."""
    chance = 1 - np.square(weight).sum(axis=0)
    inverse: NDArray[np.float64] = np.divide(
        1.0, chance, out=np.zeros_like(chance), where=chance > 1e-9
    )
    return inverse
