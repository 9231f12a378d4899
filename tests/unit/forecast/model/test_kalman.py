"""The Kalman filter: against a textbook's, exact where nothing is noisy, better where it is."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from forecast.model.kalman import KalmanState, begin, coast, correct, follow, predict, settle
from forecast.model.kalman_motion import KalmanNoise
from forecast.model.kalman_noise import noise_of_scene

Array = NDArray[np.float64]
NOISE = KalmanNoise(position_m=0.2, heading_rad=0.05, outlier_sigma=1e9)


def circle(speed: float, yaw_rate: float, time: Tensor, yaw: float = 0.3) -> Tensor:
    """Poses ``(s, 3)`` of an agent on a circle, or a straight line."""
    turned = yaw_rate * time
    chord = speed * time * torch.sinc(turned / (2 * math.pi))
    way = yaw + turned / 2
    return torch.stack((5 + chord * way.cos(), -3 + chord * way.sin(), yaw + turned), -1)


def scene(noise_m: float, noise_rad: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Agents that drive and park, as observed at 10 Hz for 2 s: ``(1, 16, 21, 3)``, times, truth.

    The truth goes on for 3 s.
    """
    time = torch.arange(-20, 31) * 0.1
    truth = torch.stack(
        [circle(0.0 if k >= 12 else 3.0 + k, 0.04 * (k % 5 - 2), time, k) for k in range(16)]
    )[None]
    generator = torch.Generator().manual_seed(seed)
    seen = truth[:, :, :21].clone()
    seen[..., :2] += noise_m * torch.randn(seen[..., :2].shape, generator=generator)
    seen[..., 2] += noise_rad * torch.randn(seen[..., 2].shape, generator=generator)
    return seen, time[None, :21], truth


def ahead(state: KalmanState, noise: KalmanNoise, steps: int = 6) -> Tensor:
    """Forecast poses ``(b, a, 3)`` half a second times ``steps`` later."""
    state = settle(state)
    for _ in range(steps):
        state = coast(state, torch.full((len(state.mean),), 0.5), noise)
    return state.pose


def textbook(measurements: Array, steps_s: Array, noise: KalmanNoise) -> tuple[Array, Array, float]:
    """An extended Kalman filter as books have it: joint update, derivatives by differences."""
    accel, accel_s = float(noise.acceleration), float(noise.acceleration_s)
    rate, rate_s = float(noise.yaw_rate), float(noise.yaw_rate_s)

    def motion(m: Array, dt: float) -> Array:
        x, y, yaw, v, w, a = m
        way = v * dt + a * accel_s * (dt - accel_s * (1 - math.exp(-dt / accel_s)))
        turn = w * rate_s * (1 - math.exp(-dt / rate_s))
        chord = way if abs(turn) < 1e-9 else way * math.sin(turn / 2) / (turn / 2)
        return np.array(
            [
                x + chord * math.cos(yaw + turn / 2),
                y + chord * math.sin(yaw + turn / 2),
                yaw + turn,
                v + a * accel_s * (1 - math.exp(-dt / accel_s)),
                w * math.exp(-dt / rate_s),
                a * math.exp(-dt / accel_s),
            ]
        )

    def process(yaw: float, dt: float) -> Array:
        q = accel**2 * (1 - math.exp(-2 * dt / accel_s)) / dt
        p = rate**2 * (1 - math.exp(-2 * dt / rate_s)) / dt
        along = np.array([math.cos(yaw), math.sin(yaw), 0, 0, 0, 0])
        v, a = np.eye(6)[3], np.eye(6)[5]
        # The integral over the step of g(t) g(t)^T, g the effect of a kick of jerk at its start.
        basis, powers = (along, v, a), (2, 1, 0)
        total = np.zeros((6, 6))
        for one, i in zip(basis, powers, strict=True):
            for two, j in zip(basis, powers, strict=True):
                size = dt ** (i + j + 1) / ((i + j + 1) * math.factorial(i) * math.factorial(j))
                total += q * size * np.outer(one, two)
        total[2:5:2, 2:5:2] += p * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
        return total

    r = np.diag([float(noise.position_m) ** 2] * 2 + [float(noise.heading_rad) ** 2])
    h = np.eye(3, 6)
    mean = np.array([*measurements[0], 0.0, 0.0, 0.0])
    spread = np.diag([*np.diag(r), 12.0**2, rate**2, accel**2])
    likelihood = 0.0
    for z, dt in zip(measurements[1:], steps_s, strict=True):
        f = np.zeros((6, 6))
        for k in range(6):
            step = 1e-5 * np.eye(6)[k]
            f[:, k] = (motion(mean + step, dt) - motion(mean - step, dt)) / 2e-5
        q = process(mean[2], dt)
        mean = motion(mean, dt)
        spread = f @ spread @ f.T + q
        rows = np.isfinite(z)
        if not rows.any():
            continue
        hm = h[rows]
        s = hm @ spread @ hm.T + r[np.ix_(rows, rows)]
        off = z[rows] - hm @ mean
        if rows[2]:
            off[-1] = (off[-1] + math.pi) % (2 * math.pi) - math.pi
        gain = spread @ hm.T @ np.linalg.inv(s)
        mean = mean + gain @ off
        spread = (np.eye(6) - gain @ hm) @ spread
        likelihood += -0.5 * (off @ np.linalg.inv(s) @ off + np.log(np.linalg.det(2 * math.pi * s)))
    mean[2] = (mean[2] + math.pi) % (2 * math.pi) - math.pi
    return mean, spread, likelihood


@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_filter_of_the_textbooks(seed: int) -> None:
    random = np.random.default_rng(seed)
    steps_s = random.uniform(0.02, 0.6, 12)
    time = torch.tensor([0.0, *steps_s.cumsum()])
    track = circle(random.uniform(-3, 15), random.uniform(-0.4, 0.4), time, 3.0).double().numpy()
    track += random.normal(size=track.shape) * [0.2, 0.2, 0.05]
    track[5, 2] = np.nan
    track[8] = np.nan
    mean, spread, likelihood = textbook(track, steps_s, NOISE)
    state, ours = follow(torch.tensor(track)[None, None], time[None].double(), NOISE)
    np.testing.assert_allclose(state.mean[0, 0].numpy(), mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state.covariance[0, 0].numpy(), spread, rtol=1e-4, atol=1e-6)
    assert float(ours) == pytest.approx(likelihood, rel=1e-5)
    # In single precision, as models run.
    single, _ = follow(torch.tensor(track).float()[None, None], time[None].float(), NOISE)
    np.testing.assert_allclose(single.mean[0, 0].numpy(), mean, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("yaw_rate", [0.0, 0.3, -0.3])
@pytest.mark.parametrize("speed", [1.0, 12.0, -4.0])
@pytest.mark.parametrize("headings", [True, False])
def test_clean_lines_and_circles_are_forecast_exactly(
    speed: float, yaw_rate: float, headings: bool
) -> None:
    time = torch.arange(-20, 31) * 0.1
    truth = circle(speed, yaw_rate, time)[None, None].double()
    seen = truth[:, :, :21].clone()
    if not headings:
        seen[..., 2] = torch.nan
    noise = KalmanNoise(1e-3, 1e-4, yaw_rate_s=1e6)
    state, _ = follow(seen, time[None, :21].double(), noise)
    off = torch.linalg.vector_norm((ahead(state, noise) - truth[:, :, -1])[..., :2], dim=-1)
    assert float(off) < 0.1


def test_a_parked_agent_neither_creeps_nor_spins() -> None:
    seen, time, truth = scene(0.2, 0.05)
    noise = KalmanNoise(0.2, 0.05)
    state, _ = follow(seen, time, noise)
    forecast = ahead(state, noise)
    moved = (forecast - state.pose)[0, 12:]
    assert float(moved.abs().amax()) < 1e-6
    assert float((forecast - truth[:, :, -1])[0, 12:, :2].abs().amax()) < 0.3


@pytest.mark.parametrize(("noise_m", "noise_rad"), [(0.1, 0.0175), (0.3, 0.0525)])
def test_noise_costs_it_far_less_than_the_last_difference(noise_m: float, noise_rad: float) -> None:
    ours, theirs = [], []
    for seed in range(5):
        seen, time, truth = scene(noise_m, noise_rad, seed)
        noise = noise_of_scene(seen, time)
        state, _ = follow(seen, time, noise)
        velocity = (seen[:, :, -1, :2] - seen[:, :, -6, :2]) / 0.5
        last = seen[:, :, -1, :2] + 3 * velocity
        goal = truth[:, :, -1, :2]
        ours.append(torch.linalg.vector_norm(ahead(state, noise)[..., :2] - goal, dim=-1)[:, :12])
        theirs.append(torch.linalg.vector_norm(last - goal, dim=-1)[:, :12])
    assert float(torch.stack(ours).mean()) < 0.7 * float(torch.stack(theirs).mean())


def test_the_noise_of_a_scene_is_found() -> None:
    for level, least, most in ((0.0, 0.0, 0.06), (0.1, 0.09, 0.11), (0.3, 0.19, 0.31)):
        seen, time, _ = scene(level, level / 6)
        found = noise_of_scene(seen, time)
        assert least < float(found.position_m) < most
    both = torch.cat([scene(level, 0.01)[0] for level in (0.1, 0.5)])
    levels = noise_of_scene(both, time.expand(2, -1)).position_m
    assert isinstance(levels, Tensor)
    assert levels[:, 0].tolist() == pytest.approx([0.1, 0.5])


def test_agents_do_not_see_each_other_and_neither_do_scenes() -> None:
    seen, time, _ = scene(0.1, 0.02)
    seen[0, 3, :7] = torch.nan
    seen[0, 4, 5:11] = torch.nan
    together, likelihood = follow(seen, time, NOISE)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    shuffled, _ = follow(seen[:, order], time, NOISE)
    assert torch.equal(shuffled.mean, together.mean[:, order])
    later = time * 1.5
    both, twice = follow(torch.cat((seen, seen)), torch.cat((time, later)), NOISE)
    torch.testing.assert_close(both.mean[:1], together.mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(twice[:1], likelihood, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(both.mean[1:], follow(seen, later, NOISE)[0].mean)


def test_a_late_agent_is_as_one_of_a_shorter_history() -> None:
    seen, time, _ = scene(0.1, 0.02)
    late = seen.clone()
    late[:, :, :8] = torch.nan
    ours, theirs = follow(late, time, NOISE)[0], follow(seen[:, :, 8:], time[:, 8:], NOISE)[0]
    torch.testing.assert_close(ours.mean, theirs.mean)
    torch.testing.assert_close(ours.covariance, theirs.covariance)
    torch.testing.assert_close(ours.age_s, theirs.age_s)


def test_a_gap_is_bridged_and_unseen_time_counted() -> None:
    seen, time, truth = scene(0.02, 0.005)
    seen[:, :, 14:] = torch.nan
    state, _ = follow(seen, time, NOISE)
    torch.testing.assert_close(state.unseen_s, torch.full((1, 16), 0.7), atol=1e-4, rtol=0)
    off = torch.linalg.vector_norm((state.pose - truth[:, :, 20])[..., :2], dim=-1)
    assert float(off.max()) < 0.6
    nobody, likelihood = follow(torch.full_like(seen, torch.nan), time, NOISE)
    assert not nobody.seen.any()
    assert torch.equal(nobody.mean, torch.zeros_like(nobody.mean))
    assert not likelihood.any()


def test_front_and_rear_confused_turns_nobody_around() -> None:
    seen, time, _ = scene(0.05, 0.01)
    confused = seen.clone()
    confused[:, :, 9:13, 2] += math.pi
    noise = KalmanNoise(0.05, 0.01)
    ours, theirs = follow(confused, time, noise)[0], follow(seen, time, noise)[0]
    torch.testing.assert_close(ours.mean, theirs.mean, rtol=1e-3, atol=1e-3)


def test_a_slip_of_the_tracker_is_doubted() -> None:
    seen, time, truth = scene(0.05, 0.01)
    seen[:, :, 18, :2] += 2.0
    errors = []
    for sigma in (3.5, 1e9):
        noise = KalmanNoise(0.05, 0.01, outlier_sigma=sigma)
        state, _ = follow(seen, time, noise)
        off = ahead(state, noise)[..., :2] - truth[:, :, -1, :2]
        errors.append(float(torch.linalg.vector_norm(off, dim=-1)[:, :12].mean()))
    assert errors[0] < 0.6 * errors[1]


def test_no_time_changes_nothing_and_covariances_stay_symmetric_and_positive() -> None:
    seen, _, _ = scene(0.1, 0.02)
    state = begin(seen[:, :, 0], NOISE)
    for index in range(1, 21):
        state = predict(state, torch.tensor([0.1]), NOISE)
        state, _ = correct(state, seen[:, :, index], NOISE)
        assert torch.equal(state.covariance, state.covariance.mT)
        assert float(torch.linalg.eigvalsh(state.covariance.double()).min()) > -1e-6
        assert bool((state.pose[..., 2].abs() <= math.pi).all())
    same = predict(state, torch.tensor([0.0]), NOISE)
    torch.testing.assert_close(same.mean, state.mean)
    torch.testing.assert_close(same.covariance, state.covariance)
    standing = coast(settle(state), torch.tensor([0.0]), NOISE)
    torch.testing.assert_close(standing.pose, state.pose)


def test_who_brakes_comes_to_a_stop_and_stays_there() -> None:
    state = begin(torch.tensor([[[0.0, 0.0, 0.0]]]), NOISE)
    mean = torch.tensor([[[0.0, 0.0, 0.0, 3.0, 0.0, -3.0]]])
    noise = replace(NOISE, acceleration_s=50.0)
    state = replace(state, mean=mean)
    places = []
    for _ in range(6):
        state = coast(state, torch.tensor([0.5]), noise)
        places.append(float(state.pose[0, 0, 0]))
    assert places[0] == pytest.approx(1.125, abs=2e-2)
    assert places[1:] == pytest.approx([1.5] * 5, abs=2e-2)


def test_the_expected_error_is_that_of_places_drawn_from_the_covariance() -> None:
    torch.manual_seed(0)
    turned = torch.tensor([[[0.8, -0.6], [0.6, 0.8]]])  # of a yaw of acos 0.8
    spread = turned @ torch.diag(torch.tensor([4.0, 0.25])) @ turned.mT
    state = begin(torch.tensor([[[3.0, -2.0, math.acos(0.8)]]]), KalmanNoise())
    covariance = state.covariance.clone()
    covariance[..., :2, :2] = spread
    drawn = torch.distributions.MultivariateNormal(torch.zeros(2), spread[0]).sample((200_000,))
    errors = (drawn @ turned[0]).abs().mean(0)  # ahead and aside
    expected = replace(state, covariance=covariance).uncertainty[0, 0]
    torch.testing.assert_close(expected, errors, rtol=0.02, atol=0)
