"""Exact rigid motions of the plane, in metric coordinates.

A pose is ``(..., 3)``: x, y in metres and yaw in radians. A twist is a pose's logarithm per step:
forward and leftward metres along the arc, and radians turned. Repeating one twist drives along a
circle at constant speed, which is what "constant turn rate" means here.

Source: Sola et al., "A micro Lie theory for state estimation in robotics" (2018), SE(2).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def wrap(angle: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """The same angle in [-pi, pi)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def course(way: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n"]:
    """Where a way leads, as a yaw; 0 where it leads nowhere, also for gradients.

    Up to torch 2.9 those of ``atan2`` are not finite there.
    """
    nowhere = (way == 0).all(-1)
    return torch.atan2(way[..., 1], torch.where(nowhere, 1.0, way[..., 0]))


def rotate(points: Float[Tensor, "*n 2"], yaw: Float[Tensor, "*n"]) -> Float[Tensor, "*n 2"]:
    """Points turned counter-clockwise about the origin (``yaw`` broadcasts)."""
    x, y, cos, sin = points[..., 0], points[..., 1], yaw.cos(), yaw.sin()
    return torch.stack((cos * x - sin * y, sin * x + cos * y), -1)


def apply(pose: Float[Tensor, "*n 3"], points: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 2"]:
    """Points of the pose's own frame, in the frame the pose is given in."""
    return rotate(points, pose[..., 2]) + pose[..., :2]


def unapply(pose: Float[Tensor, "*n 3"], points: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 2"]:
    """Points in the pose's own frame: the inverse of :func:`apply`."""
    return rotate(points - pose[..., :2], -pose[..., 2])


def compose(a: Float[Tensor, "*n 3"], b: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """The pose ``b``, given in the frame of ``a``, in the frame of ``a``'s parent."""
    return torch.cat((apply(a, b[..., :2]), wrap(a[..., 2:] + b[..., 2:])), -1)


def between(a: Float[Tensor, "*n 3"], b: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """The pose ``b`` as seen from ``a``."""
    return torch.cat((unapply(a, b[..., :2]), wrap(b[..., 2:] - a[..., 2:])), -1)


def exp(twist: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """The pose reached by following a twist for one step."""
    turn = twist[..., 2]
    along = torch.sinc(turn / math.pi)
    across = turn / 2 * torch.sinc(turn / (2 * math.pi)) ** 2
    x, y = twist[..., 0], twist[..., 1]
    return torch.stack((along * x - across * y, across * x + along * y, wrap(turn)), -1)


def log(pose: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """The twist that reaches ``pose`` in one step, turning by less than half a circle."""
    turn = wrap(pose[..., 2])
    half = turn / 2
    along = half.cos() / torch.sinc(half / math.pi)
    x, y = pose[..., 0], pose[..., 1]
    return torch.stack((along * x + half * y, along * y - half * x, turn), -1)
