"""Random numbers of realizations: of each agent its own, of each scene some that all share.

A realization has a generator of its own, so that its numbers depend neither on the batch, nor on
how many others are made, nor on who makes them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from forecast.types import Draws


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
    count, agents = len(draws.realizations), live.sum(1).tolist()
    numbers = np.zeros((batch, count, slots + 1, parts + 1), np.float32)
    for sequence in range(batch):
        for index, realization in enumerate(draws.realizations):
            key = (draws.seed, draws.first + sequence, realization)
            generator = np.random.default_rng(key)
            # The scene's come first: those of its agents are the same whatever follows them.
            rows = generator.standard_normal((agents[sequence] + 1, parts + 1))
            numbers[sequence, index, : len(rows)] = rows
    drawn = torch.from_numpy(numbers).flatten(0, 1).to(live.device)
    scene, own = drawn[:, :1, :parts], drawn[:, 1:, :parts]
    normal = math.sqrt(common) * scene + math.sqrt(1 - common) * own
    return Noise(normal, torch.special.ndtr(drawn[:, 1:, parts]))


def laplace(normal: Float[Tensor, "*n"], most: float) -> Float[Tensor, "*n"]:
    """Standard normal numbers made Laplace ones of scale 1, of the same order; at most ``most``."""
    tail = torch.special.ndtr(-normal.abs())
    return normal.sign() * -(2 * tail).clamp(min=math.exp(-most)).log()
