"""An extended Kalman filter of agents in the plane: what a classical stack tracks them with.

The state is x, y, yaw, speed, yaw rate and acceleration along the heading (constant turn rate and
acceleration, of which the latter two fade: Singer's model). Measured are x, y and yaw, any of which
may be missing. All agents of a batch are filtered at once::

    state = begin(pose, noise)                       # the first sample; NaN = not seen
    state = predict(state, dt_s, noise)              # to the time of the next
    state, log_likelihood = correct(state, pose, noise)
    state = settle(state)                            # the present, without what is mere noise
    state = coast(state, dt_s, noise)                # one step into the future, as often as wanted

Source: Schubert et al., Comparison and Evaluation of Advanced Motion Models for Vehicle Tracking,
FUSION 2008; Singer, Estimating Optimal Tracking Filter Performance for Manned Maneuvering Targets,
1970.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from forecast.model.kalman_motion import (
    ACCELERATION,
    SIZE,
    SPEED,
    YAW,
    YAW_RATE,
    KalmanNoise,
    X,
    Y,
    along_arc,
    driven,
    move,
    process_noise,
    std_of,
)
from forecast.model.scene.se2 import wrap

MEASURED = (X, Y, YAW)

FIRST_SPEED_STD = 12.0
"""Of an agent that is seen for the first time, m/s."""
# Displacement in standard deviations of its noise that tells the heading of an agent without one.
HEADED_SIGMA = 4.0


@dataclass(frozen=True)
class KalmanState:
    """What is known of B x A agents at one moment.

    Attributes:
        mean: x, y, yaw, speed, yaw rate, acceleration; 0 where never seen.
        covariance: Of the mean, symmetric.
        seen: Whether the agent was ever measured.
        headed: Whether its heading is known; until then it stands.
        first: x and y where it was first measured.
        age_s: Seconds since then.
        unseen_s: Seconds since it was last measured.
    """

    mean: Float[Tensor, "b a 6"]
    covariance: Float[Tensor, "b a 6 6"]
    seen: Bool[Tensor, "b a"]
    headed: Bool[Tensor, "b a"]
    first: Float[Tensor, "b a 2"]
    age_s: Float[Tensor, "b a"]
    unseen_s: Float[Tensor, "b a"]

    @property
    def pose(self) -> Float[Tensor, "b a 3"]:
        """x, y and yaw."""
        return self.mean[..., :3]

    @property
    def uncertainty(self) -> Float[Tensor, "b a 2"]:
        """Expected error of x and y, metres ahead and aside of the agent."""
        cos, sin = self.mean[..., 2].cos(), self.mean[..., 2].sin()
        sides = torch.stack((torch.stack((cos, sin), -1), torch.stack((-sin, cos), -1)), -2)
        variance = ((sides @ self.covariance[..., :2, :2]) * sides).sum(-1)
        return (variance.clamp(min=0) * (2 / math.pi)).sqrt()


def begin(measurement: Float[Tensor, "b a 3"], noise: KalmanNoise) -> KalmanState:
    """The state at the first sample.

    Args:
        measurement: x, y, yaw in metres and radians; NaN = not measured.
        noise: Of these and of what follows.
    """
    shape, blank = measurement.shape[:2], measurement.new_zeros
    unseen = KalmanState(
        mean=blank(*shape, SIZE),
        covariance=blank(*shape, SIZE, SIZE),
        seen=blank(shape, dtype=torch.bool),
        headed=blank(shape, dtype=torch.bool),
        first=blank(*shape, 2),
        age_s=blank(shape),
        unseen_s=blank(shape),
    )
    return correct(unseen, measurement, noise)[0]


def predict(state: KalmanState, dt_s: Float[Tensor, "b"], noise: KalmanNoise) -> KalmanState:
    """The state some time later, by the motion it has.

    Args:
        state: At some moment.
        dt_s: Seconds from then, at least 0, one per sequence.
        noise: How far motion may change.
    """
    dt = dt_s[:, None].to(state.mean)
    mean, jacobian = move(state.mean, dt, noise)
    spread = jacobian @ state.covariance @ jacobian.mT + process_noise(state.mean, dt, noise)
    covariance = torch.where(state.seen[..., None, None], (spread + spread.mT) / 2, 0.0)
    return replace(
        state,
        mean=torch.where(state.seen[..., None], mean, 0.0),
        covariance=covariance,
        age_s=torch.where(state.seen, state.age_s + dt, 0.0),
        unseen_s=torch.where(state.seen, state.unseen_s + dt, 0.0),
    )


def correct(
    state: KalmanState, measurement: Float[Tensor, "b a 3"], noise: KalmanNoise
) -> tuple[KalmanState, Float[Tensor, "b a"]]:
    """The state with what was measured at its time, and how likely that was.

    x, y and yaw are taken in one after the other, which is the same as all at once as their errors
    are independent. A yaw more than a quarter turn off is taken for the opposite one: a tracker
    that confuses front and rear does not turn an agent around.

    Args:
        state: Predicted to the time of the measurement.
        measurement: x, y, yaw in metres and radians; NaN = not measured.
        noise: How far the measurement may be off.

    Returns:
        The state, and the log likelihood of the innovation, 0 for who is new or not measured.
    """
    stds = _doubted(state, measurement, noise)
    known = torch.isfinite(measurement)
    value = torch.where(known, measurement, 0.0)
    measured = known[..., X] & known[..., Y]
    mean, covariance = state.mean, state.covariance
    likelihood = torch.zeros_like(mean[..., 0])
    for part in MEASURED:
        use = known[..., part] & state.seen & (state.headed if part == YAW else measured)
        innovation = value[..., part] - mean[..., part]
        if part == YAW:
            innovation = _half_turn(innovation)
        mean, covariance, density = _take(mean, covariance, part, innovation, stds[part], use)
        likelihood = likelihood + density
    mean = torch.cat((mean[..., :YAW], wrap(mean[..., YAW, None]), mean[..., SPEED:]), -1)
    updated = replace(
        state,
        mean=mean,
        covariance=covariance,
        unseen_s=torch.where(measured, 0.0, state.unseen_s),
    )
    return _newly_headed(_newly_seen(updated, value, measured, noise), value, known, noise), (
        likelihood
    )


def _take(
    mean: Tensor, covariance: Tensor, part: int, innovation: Tensor, std: Tensor, use: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One measured number taken in (Joseph's form, which keeps the covariance positive)."""
    variance = covariance[..., part, part] + std**2
    gain = torch.where(use[..., None], covariance[..., part] / variance[..., None], 0.0)
    # (1 - gain unit^T) covariance (1 - unit gain^T) + noise gain gain^T, without the zeros.
    spread = covariance - gain[..., :, None] * covariance[..., part, None, :]
    spread = spread - spread[..., :, part, None] * gain[..., None, :]
    spread = spread + (std**2)[..., None, None] * gain[..., :, None] * gain[..., None, :]
    density = -0.5 * (innovation**2 / variance + (2 * math.pi * variance).log())
    mean = mean + gain * innovation[..., None]
    return mean, (spread + spread.mT) / 2, torch.where(use, density, 0.0)


def _doubted(
    state: KalmanState, measurement: Tensor, noise: KalmanNoise
) -> tuple[Tensor, Tensor, Tensor]:
    """Standard deviations of what is measured, larger ones where a position is far off."""
    position, _, heading = _measurement_stds(state.mean[..., 0], noise)
    x, y = (measurement[..., :2] - state.mean[..., :2]).nan_to_num(0.0).unbind(-1)
    covariance, variance = state.covariance, position**2
    xx, yy = covariance[..., X, X] + variance, covariance[..., Y, Y] + variance
    xy = covariance[..., X, Y]
    # Mahalanobis distance: the square of how many standard deviations it is off.
    squared = (yy * x**2 - 2 * xy * x * y + xx * y**2) / (xx * yy - xy**2).clamp(min=1e-12)
    sigmas = squared / noise.outlier_sigma**2
    position = torch.where(state.headed, position * sigmas.clamp(min=1.0).sqrt(), position)
    return position, position, heading


def _newly_seen(
    state: KalmanState, value: Tensor, measured: Tensor, noise: KalmanNoise
) -> KalmanState:
    """Agents begin where they are first measured, at rest, with any speed possible."""
    new = measured & ~state.seen
    position, _, heading = _measurement_stds(value[..., 0], noise)
    still = torch.zeros_like(state.mean[..., :3])
    mean = torch.cat((value[..., :2], torch.zeros_like(value[..., 2:]), still), -1)
    stds = (position, position, torch.full_like(heading, math.pi), *[torch.zeros_like(heading)] * 3)
    covariance = torch.diag_embed(torch.stack(stds, -1) ** 2)
    return replace(
        state,
        mean=torch.where(new[..., None], mean, state.mean),
        covariance=torch.where(new[..., None, None], covariance, state.covariance),
        seen=state.seen | measured,
        first=torch.where(new[..., None], value[..., :2], state.first),
    )


def _newly_headed(
    state: KalmanState, value: Tensor, known: Tensor, noise: KalmanNoise
) -> KalmanState:
    """Agents get a heading when one is measured, or when they have clearly moved."""
    position, _, heading = _measurement_stds(value[..., 0], noise)
    moved = value[..., :2] - state.first
    distance = torch.linalg.vector_norm(moved, dim=-1)
    error = math.sqrt(2) * position
    here = known[..., X] & known[..., Y] & state.seen
    told = known[..., YAW] & here & ~state.headed
    went = here & ~state.headed & ~told & (distance > HEADED_SIGMA * error) & (state.age_s > 0)
    age, way = state.age_s.clamp(min=1e-3), distance.clamp(min=1e-3)
    zero, one = torch.zeros_like(distance), torch.ones_like(distance)
    course = torch.atan2(moved[..., 1], moved[..., 0])
    yaw = torch.where(told, value[..., YAW], course)
    mean = torch.stack(
        (value[..., X], value[..., Y], yaw, torch.where(went, distance / age, zero), zero, zero), -1
    )
    stds = (
        position,
        position,
        torch.where(told, heading, error / way),
        torch.where(told, FIRST_SPEED_STD * one, error / age + 0.5),
        std_of(noise.yaw_rate, one),
        std_of(noise.acceleration, one),
    )
    new = told | went
    covariance = torch.diag_embed(torch.stack(stds, -1) ** 2)
    return replace(
        state,
        mean=torch.where(new[..., None], mean, state.mean),
        covariance=torch.where(new[..., None, None], covariance, state.covariance),
        headed=state.headed | new,
    )


def settle(
    state: KalmanState,
    speed_sigma: float = 2.0,
    yaw_rate_sigma: float = 1.5,
    acceleration_sigma: float = 0.5,
    least_radius_m: Float[Tensor, "b a"] | float = 1e-6,
) -> KalmanState:
    """The state at the present, without the motion that may well be mere noise.

    Who is no faster than so many standard deviations of its speed stands. A yaw rate or an
    acceleration of so many standard deviations counts half, a smaller one hardly, a larger one in
    full. Chosen as the noise of motion was. No agent turns on a narrower circle than of
    ``least_radius_m``.
    """
    spread = state.covariance.diagonal(dim1=-2, dim2=-1)
    ratio = state.mean.abs() / spread.clamp(min=1e-12).sqrt()
    moving = ratio[..., SPEED] > speed_sigma
    turn = _significance(ratio[..., YAW_RATE], yaw_rate_sigma)
    gain = _significance(ratio[..., ACCELERATION], acceleration_sigma)
    kept = moving[..., None] * torch.stack((torch.ones_like(turn), turn, gain), -1)
    speed, yaw_rate, acceleration = (kept * state.mean[..., SPEED:]).unbind(-1)
    limit = speed.abs() / least_radius_m
    yaw_rate = torch.maximum(torch.minimum(yaw_rate, limit), -limit)
    motion = torch.stack((speed, yaw_rate, acceleration), -1)
    return replace(state, mean=torch.cat((state.pose, motion), -1))


def _significance(ratio: Tensor, sigma: float) -> Tensor:
    """How much a number of so many standard deviations counts: half at ``sigma`` of them."""
    return ratio**4 / (ratio**4 + sigma**4)


def coast(state: KalmanState, dt_s: Float[Tensor, "b"], noise: KalmanNoise) -> KalmanState:
    """The state one step into the future: who brakes comes to a stop, and does not turn there."""
    dt = dt_s[:, None].to(state.mean)
    after = predict(state, dt_s, noise)
    speed, acceleration = state.mean[..., SPEED], state.mean[..., ACCELERATION]
    stops = after.mean[..., SPEED] * speed <= 0
    # The way to a stop under constant deceleration.
    stopping = torch.where(stops & (acceleration != 0), -(speed**2) / (2 * acceleration), 0.0)
    way, turn, _ = driven(state.mean, dt, noise)
    way = torch.where(stops, stopping, way)
    unbraked = speed * dt
    share = torch.where(unbraked != 0, way / unbraked, 0.0).clamp(0, 1)
    turn = turn * share
    pose = along_arc(state.mean, way, turn)
    rest = torch.where(stops[..., None], 0.0, after.mean[..., SPEED:])
    slower = torch.where(speed != 0, after.mean[..., SPEED] / speed, 0.0).clamp(0, 1)
    rest = rest * torch.stack((torch.ones_like(slower), slower, torch.ones_like(slower)), -1)
    return replace(after, mean=torch.cat((pose, rest), -1))


def _measurement_stds(like: Tensor, noise: KalmanNoise) -> tuple[Tensor, Tensor, Tensor]:
    position = std_of(noise.position_m, like).clamp(min=1e-3)
    return position, position, std_of(noise.heading_rad, like).clamp(min=1e-4)


def _half_turn(angle: Tensor) -> Tensor:
    """The same angle, or that of the opposite direction, in [-pi / 2, pi / 2)."""
    return torch.remainder(angle + math.pi / 2, math.pi) - math.pi / 2


def follow(
    track_history: Float[Tensor, "b n s c"], sample_time: Float[Tensor, "b s"], noise: KalmanNoise
) -> tuple[KalmanState, Float[Tensor, "b n"]]:
    """Filters everything that was observed.

    Args:
        track_history: x, y, yaw and what else there may be; NaN = not measured.
        sample_time: Seconds of each sample, ascending; NaN = padding, in front.
        noise: How far measurements and motion are off.

    Returns:
        The state at the last sample, and the log likelihood of what was observed of each agent.
    """
    step_s = sample_time.diff(dim=1).nan_to_num(0.0)
    state = begin(track_history[:, :, 0, :3], noise)
    total = torch.zeros_like(state.age_s)
    for index in range(1, track_history.shape[2]):
        state = predict(state, step_s[:, index - 1], noise)
        state, likelihood = correct(state, track_history[:, :, index, :3], noise)
        total = total + likelihood
    return state, total
