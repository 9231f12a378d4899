"""Simulated traffic: a random city, its road users and an ego among them, for every seed.

Each seed is one scene, the same on every machine: ``netgenerate`` and ``netconvert`` build the
streets (:mod:`data_tools.sources.sumo_network`), :mod:`data_tools.sources.sumo_demand` fills them,
``sumo`` moves everyone at 10 Hz, each as a program of its own, so that nothing is shared between
scenes or worker processes.
"""

from __future__ import annotations

import re
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from scipy.signal import lfilter

from data_tools.scene import Observed, Scene
from data_tools.sources.inputs import decimate
from data_tools.sources.sumo_demand import Body, park_cars, write_demand
from data_tools.sources.sumo_network import Network, build_network, map_elements, run_tool
from forecast.errors import ConfigError, DataError

Array = NDArray[np.float64]

STEP_S = 0.1
LEAD_IN_S = 3.0
MAX_WINDOW_S = 600.0
MIN_EGO_TRAVEL_M = 15.0
MAX_EGO_LENGTH_M = 7.0
MAX_SPEED = 40.0  # m/s
# How many times longer a way may seem than it is: least and most of a network.
DETOURS = (1.0, 2.0)
# Faster drivers keep their speed the better, as recordings show.
STEADY_FROM_M_S = 8.0
# Walkers face where they will be after LOOK_AHEAD_S, if that is further than MIN_WAY_M.
LOOK_AHEAD_S, MIN_WAY_M = 1.0, 0.3


@dataclass(frozen=True)
class Sumo:
    """Scenes simulated by SUMO.

    Args:
        position_noise_m: Error of moving agents' positions, as a tracker makes; standard deviation,
            metres. Scenes have trackers of their own: from a fifth of it to twice as much, from
            trembling to slowly varying.
        yaw_noise_rad: The same for yaw.
        wander_m_s: How fast the median walker strays from SUMO's straight lines; standard deviation
            along each axis, m/s.
        look_rad: How far its yaw deviates from where it will go; standard deviation, radians.
        pace: How much the pace of the median vehicle varies, a share; standard deviation.
        window_s: Length of a scene, seconds. A longer one is cheaper than two, but less varied.
    """

    name: str = "sumo"
    position_noise_m: float = 0.015
    yaw_noise_rad: float = 0.003
    wander_m_s: float = 0.2
    look_rad: float = 0.05
    pace: float = 0.02
    window_s: float = 15.0

    def __post_init__(self) -> None:
        if not 1.0 <= self.window_s <= MAX_WINDOW_S:
            wanted = f"window_s from 1 to {MAX_WINDOW_S:g} s"
            raise ConfigError(wanted, f"{self.window_s:g}", "correct --set")
        noise, wander = (
            (self.position_noise_m, self.yaw_noise_rad),
            (self.wander_m_s, self.look_rad),
        )
        errors = (*noise, *wander, self.pace)
        if not all(0.0 <= error < np.inf for error in errors):
            wanted = "position_noise_m, yaw_noise_rad, wander_m_s, look_rad and pace of at least 0"
            raise ConfigError(wanted, f"{errors}", "correct --set")

    def find(self, inputs: Sequence[str]) -> list[str]:
        """Seeds as units of work.

        Args:
            inputs: Each a seed, ``7``, or a half-open range of seeds, ``0:200``.

        Raises:
            DataError: An input is neither.
        """
        seeds: dict[str, None] = {}
        for text in inputs:
            match = re.fullmatch(r"(\d{1,9})(?::(\d{1,9}))?", text)
            first = int(match[1]) if match else 0
            stop = int(match[2]) if match and match[2] else first + 1
            if not match or stop <= first:
                raise DataError(
                    "a seed such as 7, or a range of seeds such as 0:200", repr(text), "correct it"
                )
            seeds.update(dict.fromkeys(map(str, range(first, stop))))
        return list(seeds)

    def read(self, unit: str, dt_s: float) -> Scene:
        """Simulates one seed.

        Args:
            unit: The seed.
            dt_s: Seconds between frames, a multiple of 0.1.

        Raises:
            DataError: ``dt_s`` is no such multiple, SUMO is missing or fails, or no vehicle of
                this seed drives through the whole window.
        """
        frames = round(self.window_s / STEP_S) + 1
        time_s = np.linspace(0.0, (frames - 1) * STEP_S, frames)
        keep = decimate(time_s, dt_s, f"seed {unit}")
        rng = np.random.default_rng(int(unit))
        with tempfile.TemporaryDirectory(prefix="sumo-") as name:
            folder = Path(name)
            network = build_network(folder, int(unit), rng)
            begin_s = round(float(rng.uniform(35.0, 60.0)), 1)
            end_s = begin_s + LEAD_IN_S + time_s[-1]
            bodies = write_demand(network, folder / "demand.rou.xml", end_s, rng)
            front = _simulate(folder, unit, begin_s, end_s, rng.uniform(*DETOURS))
        front = _wandering(front, bodies, self.wander_m_s, rng)
        users = _road_users(_paced(front, bodies, self.pace, rng), bodies)
        smooth = _moves_smoothly(users.pose)
        driving = users.only(smooth)
        ego = driving.pose[_choose_ego(driving, unit, rng)]
        users = driving.looking(self.look_rad, rng).disturbed(self, rng)
        users = users.joined(_parked(network, frames, rng))
        state = users.state()
        return Scene(
            name=f"sumo-{int(unit):06d}",
            time_s=time_s[keep],
            dt_s=dt_s,
            track_id=users.names,
            track_class=tuple(body.kind for body in users.bodies),
            state=state[:, keep],
            ego_pose=ego[keep],
            map=map_elements(network),
            observed=Observed(time_s, state),
            notes={"road users that jumped, left out": int((~smooth).sum())},
        )


@dataclass(frozen=True)
class _Users:
    """Road users and the poses of their boxes' centres, ``(N, T, 3)``, NaN = absent."""

    names: tuple[str, ...]
    bodies: tuple[Body, ...]
    pose: Array

    def only(self, chosen: NDArray[np.bool_]) -> _Users:
        index = np.flatnonzero(chosen)
        names = tuple(self.names[i] for i in index)
        return _Users(names, tuple(self.bodies[i] for i in index), self.pose[index])

    def joined(self, other: _Users) -> _Users:
        pose = np.concatenate([self.pose, other.pose])
        return _Users(self.names + other.names, self.bodies + other.bodies, pose)

    def looking(self, aside_rad: float, rng: np.random.Generator) -> _Users:
        """With walkers that face where they will go, each with a slowly varying error."""
        pose = self.pose.copy()
        for index in [i for i, body in enumerate(self.bodies) if body.kind == "pedestrian"]:
            forget_s = np.exp(rng.uniform(np.log(2.0), np.log(60.0)))
            aside = _noise(pose.shape[1], forget_s, rng)
            pose[index, :, 2] = _look_ahead(pose[index]) + aside_rad * _own_factor(rng) * aside
        return replace(self, pose=pose)

    def disturbed(self, by: Sumo, rng: np.random.Generator) -> _Users:
        """With a tracker's error, which is smaller for agents that hardly move."""
        forget_s = np.exp(rng.uniform(np.log(0.05), np.log(2.0)))
        quality = np.exp(rng.uniform(np.log(0.2), np.log(2.0)))
        people, frames, _ = self.pose.shape
        noise = [[_noise(frames, forget_s, rng) for _ in range(3)] for _ in range(people)]
        error = np.array(noise).reshape(people, 3, frames).swapaxes(1, 2)
        extent = np.nanmax(self.pose, axis=1) - np.nanmin(self.pose, axis=1)
        share = np.minimum(1.0, np.linalg.norm(extent[:, :2], axis=1) / 5.0)
        scale = quality * np.array([by.position_noise_m, by.position_noise_m, by.yaw_noise_rad])
        return replace(self, pose=self.pose + share[:, None, None] * scale * error)

    def state(self) -> Array:
        size = np.array([(body.length_m, body.width_m) for body in self.bodies])
        size = np.broadcast_to(size[:, None], (*self.pose.shape[:2], 2))
        state = np.concatenate([self.pose, size], axis=-1)
        return np.where(np.isfinite(self.pose[..., :1]), state, np.nan)


def _road_users(front: dict[str, Array], bodies: dict[str, Body]) -> _Users:
    """Road users present after the lead-in, in which the wheels' headings settle."""
    names = tuple(front)
    seen = tuple(bodies[name] for name in names)
    pose = centre_poses(np.stack([front[name] for name in names]), seen)
    pose = pose[:, round(LEAD_IN_S / STEP_S) :]
    there: NDArray[np.bool_] = np.any(np.isfinite(pose[..., 0]), axis=1)
    return _Users(names, seen, pose).only(there)


def _wandering(
    front: dict[str, Array], bodies: dict[str, Body], stray_m_s: float, rng: np.random.Generator
) -> dict[str, Array]:
    """The same paths, with walkers who stray from SUMO's straight lines at an even pace.

    They do not return to their line, or a forecaster would learn to expect it. Standing walkers do
    not stray.
    """
    strayed = dict(front)
    for name in [name for name in front if bodies[name].kind == "pedestrian"]:
        path = front[name].copy()
        steps = np.linalg.norm(np.diff(path[:, :2], axis=0, prepend=np.nan), axis=-1)
        pace = uniform_filter1d(np.nan_to_num(steps / STEP_S), round(1.0 / STEP_S))
        far_m = stray_m_s * STEP_S * _own_factor(rng) * np.clip(pace, 0.0, 1.0)
        forget_s = rng.uniform(1.5, 3.0)
        for axis in range(2):
            path[:, axis] += np.cumsum(far_m * _noise(len(path), forget_s, rng, smooth=2))
        strayed[name] = path
    return strayed


def _paced(
    front: dict[str, Array], bodies: dict[str, Body], share: float, rng: np.random.Generator
) -> dict[str, Array]:
    """The same ways, driven at a pace that varies: no driver keeps an acceleration as SUMO's do.

    Each driver is early or late by a slowly varying time; standing vehicles still stand.
    """
    paced = dict(front)
    for name in [name for name in front if bodies[name].kind != "pedestrian"]:
        path = front[name]
        there = np.flatnonzero(np.isfinite(path[:, 0]))
        forget_s = rng.uniform(1.0, 3.0)
        if len(there) < 2:
            continue
        way_m = np.linalg.norm(np.diff(path[there, :2], axis=0), axis=-1).sum()
        fast = way_m / (len(there) * STEP_S) / STEADY_FROM_M_S
        early_s = share / max(1.0, fast) * forget_s * _own_factor(rng)
        early_s *= _noise(len(path), forget_s, rng, smooth=2)
        clock = np.maximum.accumulate(np.arange(len(path)) + early_s / STEP_S)[there]
        known = path[there]
        known[:, 2] = np.unwrap(known[:, 2])
        paced[name] = np.full_like(path, np.nan)
        # Who is there when the simulation ends goes on as before; others have left.
        step = known[-1] - known[-2] if there[-1] == len(path) - 1 else np.full(3, np.nan)
        early = np.maximum(clock - there[-1], 0.0)
        for axis in range(3):
            at = np.interp(clock, there, known[:, axis], left=np.nan)
            paced[name][there, axis] = np.where(early > 0, at + early * step[axis], at)
    return paced


def _look_ahead(path: Array) -> Array:
    """Yaw ``(T,)`` of a walker with poses ``(T, 3)``: towards where it will be in a second.

    A body turns before its path does: how fast real walkers turn correlates by 0.7 with how far
    aside they are in 3 s (docs/benchmarks.md). A standing walker keeps its yaw.
    """
    ahead = round(LOOK_AHEAD_S / STEP_S)
    way = path[ahead:, :2] - path[:-ahead, :2]
    goes = np.append(np.linalg.norm(way, axis=-1) > MIN_WAY_M, np.zeros(ahead, bool))
    course = np.append(np.arctan2(way[:, 1], way[:, 0]), np.zeros(ahead))
    known = np.maximum.accumulate(np.where(goes, np.arange(len(path)), -1))
    yaw: Array = np.where(known >= 0, course[known], path[:, 2])
    return yaw


def _own_factor(rng: np.random.Generator) -> float:
    """A random factor of one road user, mostly between one half and two."""
    return float(np.exp(rng.normal(0.0, 0.6)))


def _noise(frames: int, forget_s: float, rng: np.random.Generator, smooth: int = 1) -> Array:
    """A stationary random process ``(T,)`` of variance 1 with time constant ``forget_s``.

    Args:
        frames: T.
        forget_s: Time constant, seconds.
        rng: Draws it.
        smooth: How often it is averaged over the past; from 2 on it has a slope at every moment.
    """
    keep = np.exp(-STEP_S / forget_s)
    settle = round(10 * forget_s / STEP_S) + 1
    walk, impulse = rng.normal(size=settle + frames), np.eye(1, settle + frames)[0]
    for _ in range(smooth):
        walk, impulse = (lfilter([1.0], [1.0, -keep], one) for one in (walk, impulse))
    process: Array = walk[settle:] / np.linalg.norm(impulse)
    return process


def _parked(network: Network, frames: int, rng: np.random.Generator) -> _Users:
    bodies, still = park_cars(network, rng)
    pose = np.broadcast_to(still[:, None], (len(still), frames, 3))
    return _Users(tuple(bodies), tuple(bodies.values()), pose)


def _moves_smoothly(pose: Array) -> NDArray[np.bool_]:
    """Which road users never jump: SUMO lets walkers in a jam skip ahead."""
    steps = np.linalg.norm(np.diff(pose[..., :2], axis=1), axis=-1)
    jumped: NDArray[np.bool_] = (steps > MAX_SPEED * STEP_S).any(axis=1)
    return ~jumped


def _simulate(
    folder: Path, seed: str, begin_s: float, end_s: float, detours: float
) -> dict[str, Array]:
    """Front x, y and heading ``(T, 3)`` of every road user from ``begin_s`` on, NaN = absent."""
    output = folder / "fcd.xml"
    options = {
        "-n": folder / "net.xml",
        "-r": folder / "demand.rou.xml",
        "--seed": seed,
        "--end": f"{end_s + STEP_S:.1f}",
        "--step-length": STEP_S,
        "--fcd-output": output,
        "--fcd-output.attributes": "x,y,angle",
        "--device.fcd.begin": f"{begin_s:.1f}",
        "--precision": 4,
        "--lateral-resolution": 0.8,
        "--time-to-teleport": -1,
        "--collision.action": "none",
        "--ignore-route-errors": "true",
        "--weights.random-factor": f"{detours:.2f}",
        "--no-step-log": "true",
    }
    run_tool("sumo", [str(text) for pair in options.items() for text in pair])
    tracks = _read_tracks(output, begin_s, round((end_s - begin_s) / STEP_S) + 1)
    if not tracks:
        raise DataError("traffic", f"an empty street network for seed {seed}", "leave it out")
    return tracks


def _read_tracks(path: Path, begin_s: float, frames: int) -> dict[str, Array]:
    tracks: dict[str, Array] = {}
    for _, item in ET.iterparse(path):
        if item.tag != "timestep":
            continue
        frame = round((float(item.attrib["time"]) - begin_s) / STEP_S)
        if 0 <= frame < frames:
            for who in item:
                track = tracks.setdefault(who.attrib["id"], np.full((frames, 3), np.nan))
                track[frame] = [float(who.attrib[key]) for key in ("x", "y", "angle")]
        item.clear()
    for track in tracks.values():
        track[:, 2] = np.pi / 2 - np.radians(track[:, 2])  # clockwise from north -> yaw
    return tracks


def centre_poses(front: Array, bodies: Sequence[Body]) -> Array:
    """Box centres from the paths of the front bumpers.

    SUMO's own angle jumps where lanes join. A rear axle pulled along by the front (a tractrix)
    never slips sideways, so that yaw and motion agree as they do on real wheels. While the front
    moves straight by ``s``, the tangent of half the angle between axle and course falls by
    ``exp(-s / arm)``: the tractrix' closed form, exact from frame to frame.

    Args:
        front: ``(N, T, 3)`` x, y, yaw of the fronts' centres (of pedestrians: their middles), NaN
            where absent.
        bodies: Who they are, N.

    Returns:
        ``(N, T, 3)`` x, y, yaw of the boxes' centres.
    """
    walks = np.array([body.kind == "pedestrian" for body in bodies])
    length = np.array([body.length_m for body in bodies])
    arm = np.where(walks, 0.5, 0.75 * length)
    back = np.where(walks, 0.0, 0.5 * length)
    poses = np.full_like(front, np.nan)
    yaw = np.full(len(front), np.nan)
    tip = front[:, 0, :2]
    for step in range(front.shape[1]):
        move = front[:, step, :2] - tip
        tip = front[:, step, :2]
        course = np.arctan2(move[:, 1], move[:, 0])
        decay = np.exp(-np.linalg.norm(move, axis=-1) / arm)
        pulled = course + 2 * np.arctan(np.tan((yaw - course) / 2) * decay)
        yaw = np.where(np.isnan(pulled), front[:, step, 2], pulled)
        poses[:, step, 0] = tip[:, 0] - back * np.cos(yaw)
        poses[:, step, 1] = tip[:, 1] - back * np.sin(yaw)
        poses[:, step, 2] = yaw
    return poses


def _choose_ego(users: _Users, seed: str, rng: np.random.Generator) -> int:
    """A car that drives through the whole window, of those nearest the middle of the traffic."""
    steps = np.linalg.norm(np.diff(users.pose[..., :2], axis=1), axis=-1)
    car = [body.kind == "vehicle" and body.length_m < MAX_EGO_LENGTH_M for body in users.bodies]
    fit = np.flatnonzero((steps.sum(axis=1) > MIN_EGO_TRAVEL_M) & np.array(car))
    if not len(fit):
        raise DataError(
            "a car that drives through the whole window",
            f"none in the traffic of seed {seed}",
            "leave this seed out",
        )
    middle = np.nanmedian(users.pose[..., :2], axis=(0, 1))
    away = np.linalg.norm(users.pose[fit, :, :2] - middle, axis=-1).mean(axis=1)
    return int(rng.choice(fit[np.argsort(away)][: (len(fit) + 1) // 2]))
