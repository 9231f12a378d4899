"""Random numbers of realizations: of each agent its own, of each scene some that all share.

Eight realizations after one another are a block, in which every agent gets one number of each
eighth of its distribution, in an order of its own (Latin hypercube sampling): a few realizations
already show what may happen. Each number alone is as random as ever. A block has a generator of its
own, so that its numbers depend neither on the batch, nor on how many realizations are made, nor on
who makes them.

Source: McKay, Beckman and Conover, A Comparison of Three Methods for Selecting Values of Input
Variables, Technometrics 1979.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

from forecast.types import Draws

BLOCK = 8
# Uniform numbers are so far from 0 and 1 at least: normal ones are finite.
LEAST = 1e-7


@dataclass(frozen=True)
class Noise:
    """The random numbers of B x K scenes, drawn once for all leads.

    Attributes:
        normal: Numbers of each agent, standard normal.
        chance: One of each agent, uniform in 0..1: it is there while this is less than its
            existence.
    """

    normal: Float[Tensor, "s a parts"]
    chance: Float[Tensor, "s a"]


def draw(draws: Draws, live: Bool[Tensor, "b a"], parts: int, common: float = 0.0) -> Noise:
    """The numbers of some realizations of B sequences, those of a sequence one after the other.

    Args:
        draws: Which realizations.
        live: Slots that hold an agent; in each sequence they come first.
        parts: How many normal numbers an agent has.
        common: Share of their variance that all agents of a scene have in common, 0..1.
    """
    batch, slots = live.shape
    numbers = np.full((batch, len(draws.realizations), slots + 1, parts + 1), 0.5, np.float32)
    for sequence, agents in enumerate(live.sum(1).tolist()):
        for index, number in enumerate(draws.realizations):
            block, place = divmod(number, BLOCK)
            key = (draws.seed, draws.first + sequence, block)
            numbers[sequence, index, : agents + 1] = _block(key, agents + 1, parts + 1)[..., place]
    uniform = torch.from_numpy(numbers).flatten(0, 1).to(live.device)
    normal = torch.special.ndtri(uniform[..., :parts].clamp(LEAST, 1 - LEAST))
    scene, own_part = normal[:, :1], normal[:, 1:]
    mixed = math.sqrt(common) * scene + math.sqrt(1 - common) * own_part
    return Noise(mixed, uniform[:, 1:, parts])


@lru_cache(maxsize=BLOCK)
def _block(key: tuple[int, int, int], rows: int, columns: int) -> NDArray[np.float64]:
    """Uniform numbers of a block's realizations, ``(rows, columns, BLOCK)``.

    The first rows are the same however many there are.
    """
    drawn = np.random.default_rng(key).random((rows, columns, 2, BLOCK))
    eighth, place = drawn[:, :, 0].argsort(-1), drawn[:, :, 1]
    return np.asarray((eighth + place) / BLOCK)


def by_realization(scenes: Shaped[Tensor, "s *d"], count: int) -> Shaped[Tensor, "b k *d"]:
    """What B x K scenes have, by sequence and realization."""
    return scenes.view(-1, count, *scenes.shape[1:])
