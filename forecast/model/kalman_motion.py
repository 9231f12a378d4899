"""How agents move between two measurements, and by how much that is off.

The state is x, y, yaw, speed, yaw rate and acceleration along the heading; the latter two fade.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from forecast.model.scene.se2 import wrap

X, Y, YAW, SPEED, YAW_RATE, ACCELERATION = range(6)
SIZE = 6


@dataclass(frozen=True)
class KalmanNoise:
    """How far measurements and motion are off; numbers, or tensors that broadcast with ``(b, a)``.

    The defaults of the motion were chosen for the least error 3 s ahead on training parts: vehicles
    of half the places of Waymo Open Motion at 10 Hz, as labelled and with noise of 0.1 and 0.3 m,
    and the tracker's output of Argoverse 1.

    Attributes:
        position_m: Standard deviation of a measured x and y, metres.
        heading_rad: Of a measured yaw, radians.
        acceleration: Of an agent's acceleration, m/s2, about 0.
        acceleration_s: Seconds after which 1 / e of an acceleration is left.
        yaw_rate: Of an agent's yaw rate, rad/s, about 0.
        yaw_rate_s: Seconds after which 1 / e of a yaw rate is left.
        outlier_sigma: A position further off than so many standard deviations is taken for one of
            a tracker's slips, and weighs as if its noise were as large as it is off.
    """

    position_m: Tensor | float = 0.1
    heading_rad: Tensor | float = 0.02
    acceleration: Tensor | float = 1.0
    acceleration_s: Tensor | float = 2.0
    yaw_rate: Tensor | float = 0.1
    yaw_rate_s: Tensor | float = 5.0
    outlier_sigma: float = 3.5


def driven(
    mean: Tensor, dt: Tensor, noise: KalmanNoise
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Metres driven and radians turned, and the factors that they are linear in the state by."""
    fade_s, turn_s = (std_of(v, dt) for v in (noise.acceleration_s, noise.yaw_rate_s))
    kept = (-dt / fade_s).exp()
    gained = fade_s * -torch.expm1(-dt / fade_s)  # speed per acceleration
    further = fade_s * (dt - gained)  # metres per acceleration
    held = (-dt / turn_s).exp()
    turned = turn_s * -torch.expm1(-dt / turn_s)  # radians per yaw rate
    way = mean[..., SPEED] * dt + mean[..., ACCELERATION] * further
    return way, mean[..., YAW_RATE] * turned, (kept, gained, further, held, turned)


def along_arc(mean: Tensor, way: Tensor, turn: Tensor) -> Tensor:
    """The pose after some metres along a circle."""
    chord, direction = way * torch.sinc(turn / (2 * math.pi)), mean[..., YAW] + turn / 2
    x = mean[..., X] + chord * direction.cos()
    y = mean[..., Y] + chord * direction.sin()
    return torch.stack((x, y, wrap(mean[..., YAW] + turn)), -1)


def move(mean: Tensor, dt: Tensor, noise: KalmanNoise) -> tuple[Tensor, Tensor]:
    """The mean some time later, and its derivatives by the mean."""
    way, turn, (kept, gained, further, held, turned) = driven(mean, dt, noise)
    speed = mean[..., SPEED] + gained * mean[..., ACCELERATION]
    rest = torch.stack((speed, held * mean[..., YAW_RATE], kept * mean[..., ACCELERATION]), -1)
    after = torch.cat((along_arc(mean, way, turn), rest), -1)
    half = turn / 2
    share = torch.sinc(half / math.pi)
    # The derivative of sin(h) / h, by its series where h is small.
    small = half.abs() < 1e-2
    slope = torch.where(small, -half / 3, (half.cos() - share) / torch.where(small, 1.0, half))
    direction = mean[..., YAW] + half
    cos, sin = direction.cos(), direction.sin()
    jacobian = torch.eye(SIZE).to(mean).expand(*mean.shape[:-1], SIZE, SIZE).clone()
    for row, along, across in ((X, cos, -sin), (Y, sin, cos)):
        jacobian[..., row, YAW] = way * share * across
        jacobian[..., row, SPEED] = dt * share * along
        jacobian[..., row, ACCELERATION] = further * share * along
        jacobian[..., row, YAW_RATE] = way * turned / 2 * (slope * along + share * across)
    jacobian[..., YAW, YAW_RATE] = turned.expand_as(way)
    jacobian[..., SPEED, ACCELERATION] = gained.expand_as(way)
    jacobian[..., YAW_RATE, YAW_RATE] = held.expand_as(way)
    jacobian[..., ACCELERATION, ACCELERATION] = kept.expand_as(way)
    return after, jacobian


def process_noise(mean: Tensor, dt: Tensor, noise: KalmanNoise) -> Tensor:
    """What motion may change by: white jerk along the heading, white yaw acceleration."""
    one = torch.ones_like(mean[..., 0])
    dt = dt.expand_as(one)
    jerk = _density(noise.acceleration, noise.acceleration_s, dt)
    twist = _density(noise.yaw_rate, noise.yaw_rate_s, dt)
    cos, sin = mean[..., YAW].cos(), mean[..., YAW].sin()
    spread = torch.zeros_like(mean[..., None] * mean[..., None, :])
    far = jerk * dt**5 / 20
    spread[..., X, X], spread[..., Y, Y] = far * cos**2, far * sin**2
    spread[..., X, Y] = far * cos * sin
    for row, share in ((X, cos), (Y, sin)):
        spread[..., row, SPEED] = jerk * dt**4 / 8 * share
        spread[..., row, ACCELERATION] = jerk * dt**3 / 6 * share
    spread[..., SPEED, SPEED] = jerk * dt**3 / 3
    spread[..., SPEED, ACCELERATION] = jerk * dt**2 / 2
    spread[..., ACCELERATION, ACCELERATION] = jerk * dt
    spread[..., YAW, YAW] = twist * dt**3 / 3
    spread[..., YAW, YAW_RATE] = twist * dt**2 / 2
    spread[..., YAW_RATE, YAW_RATE] = twist * dt
    upper = torch.triu(spread, 1)
    return spread + upper.mT


def _density(std: Tensor | float, fade_s: Tensor | float, dt: Tensor) -> Tensor:
    """Power of the white noise that keeps a fading quantity at its standard deviation."""
    rate = 1 / std_of(fade_s, dt)
    time = dt.clamp(min=1e-6)
    return std_of(std, dt) ** 2 * -torch.expm1(-2 * time * rate) / time


def std_of(value: Tensor | float, like: Tensor) -> Tensor:
    """A number, or one for each agent or scene, as a tensor of all agents."""
    return torch.as_tensor(value, dtype=like.dtype, device=like.device).expand_as(like)
