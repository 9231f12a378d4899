"""Live is the rollout of the same history: the packaged sample, frame by frame, in a world."""

from __future__ import annotations

import os
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from data_tools.geometry import poses_to_frame
from forecast.checkpoint.packaged import packaged
from forecast.data.reader import SequenceReader
from forecast.grid import BEVGrid
from forecast.inference.request import RolloutRequest
from forecast.live import Forecaster, LiveForecast
from forecast.loop import rollout
from forecast.types import BEVSequence, map_tensors
from forecast.workflows import rollout_to_store
from tests.support.live import CLOCK_S, WORLD, replay, tracks_of, traffic, world_of


@pytest.fixture(scope="module")
def reader() -> SequenceReader:
    return SequenceReader(packaged("sample.zarr"))


@pytest.fixture(scope="module")
def forecasts(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, xr.Dataset]:
    """Of the first two sequences of the sample, without rasters (True) and with them."""
    folder: Path = tmp_path_factory.mktemp("rollouts")
    stores = {}
    for fast in (False, True):
        output = str(folder / f"{fast}.zarr")
        rollout_to_store(RolloutRequest(output=output, limit=2, batch_size=1, fast=fast))
        stores[fast] = xr.open_zarr(output)
    return stores


def apart(ours: LiveForecast, theirs: xr.Dataset) -> tuple[np.ndarray, int]:
    """Metres between the poses of both, and cells in which their label maps differ."""
    rows = np.array([int(str(id_).removeprefix("track ")) for id_ in ours.ids])
    pose = theirs["pose"].values
    assert set(np.flatnonzero(np.isfinite(pose[0, :, 0]))) == set(rows)
    off = poses_to_frame(ours.pose, WORLD)[..., :2] - pose[:, rows, :2]
    labels = np.concatenate([[0], rows + 1])[ours.instance]
    return np.linalg.norm(off, axis=-1), int((labels != theirs["instance"].values).sum())


@pytest.mark.parametrize(
    ("fast", "stands"), [(True, False), (False, True)], ids=["moves", "stands"]
)
def test_live_is_the_rollout_of_the_store(
    reader: SequenceReader, forecasts: dict[bool, xr.Dataset], fast: bool, stands: bool
) -> None:
    """Without rasters wherever the ego drives; with them where all of them are on one grid.

    The rollout draws all frames of a history on the grid of its present, which a stack cannot know
    before it is there: it reads every raster on the grid that the ego has then.
    """
    live = replay(Forecaster("packaged", fast=fast, raster_every_s=float("inf")), reader[1], stands)
    off, cells = apart(live.forecast(6), forecasts[fast].isel(sequence=1))
    assert off.size > 50
    assert off.max() < 1e-3
    assert cells == 0


def test_rasters_on_a_moving_grid_are_read_much_the_same(
    reader: SequenceReader, forecasts: dict[bool, xr.Dataset]
) -> None:
    live = replay(Forecaster("packaged", raster_every_s=float("inf")), reader[1])
    off, cells = apart(live.forecast(6), forecasts[False].isel(sequence=1))
    assert np.median(off) < 0.02
    assert off.max() < 0.5
    assert cells < 50


@pytest.mark.parametrize("index", [1, 3])
@pytest.mark.parametrize("frames", [3, 5])
def test_with_default_settings_frames_half_a_second_apart_are_read_as_by_a_rollout(
    reader: SequenceReader, index: int, frames: int
) -> None:
    """Live then reads rasters at the very moments at which the history of a store has them."""
    whole = reader[index]
    still = whole.ego_pose[:, 2:3].expand_as(whole.ego_pose)  # all rasters are on one grid
    history = replace(whole.crop(0, frames), track_history=None, sample_time=None)
    history = replace(history, ego_pose=still[:, :frames])
    live = Forecaster("packaged")
    assert history.track_state is not None
    assert history.track_class is not None
    names = np.array(["", *live.classes])[history.track_class[0].numpy()]
    for frame in range(frames):
        state = history.track_state[0, :, frame].numpy().astype(np.float64)
        seen = np.flatnonzero(np.isfinite(state).all(axis=1))
        tracks = tracks_of(seen, state[seen], names[seen])
        live.observe(CLOCK_S + 0.5 * frame, ego_pose=WORLD, tracks=tracks, map=world_of(whole))
    ours, theirs, _ = beside_rollout(live, history)
    assert np.abs(ours - theirs).max() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("every_s", [float("inf"), 0.5])
def test_what_rasters_are_read_changes_the_error_little(
    reader: SequenceReader, every_s: float
) -> None:
    """Live reads those of the frames, or others before them too; prints how far that leads."""
    live = Forecaster("packaged", raster_every_s=every_s)
    found = {2: [], 6: []}
    for index in range(len(reader)):
        whole = since_first_sample(reader[index])
        live.reset()
        ours, theirs, rows = beside_rollout(replay(live, whole), whole.crop(0, 3))
        assert whole.track_state is not None
        truth = whole.track_state[0, rows, 2:, :2].numpy().swapaxes(0, 1)
        for lead, numbers in found.items():
            moves = np.linalg.norm(truth[lead] - truth[0], axis=-1) > 1.0
            places = ours[lead - 1], theirs[lead - 1]
            pairs = ((places[0], truth[lead]), (places[1], truth[lead]), places)
            numbers.append([np.linalg.norm(a - b, axis=-1)[moves] for a, b in pairs])
    for lead, numbers in found.items():
        error, other, off = np.concatenate(numbers, axis=1)
        print(
            f"rasters every {every_s} s, {0.5 * lead} s ahead, {len(off)} agents:"
            f" mean error of the rollout {other.mean():.3f} m, of live {error.mean():.3f} m;"
            f" apart {np.median(off):.3f} m, 90 % {np.quantile(off, 0.9):.3f} m, {off.max():.2f} m;"
            f" live nearer by 0.1 m {np.sum(other - error > 0.1)},"
            f" farther {np.sum(error - other > 0.1)}"
        )
        assert abs(error.mean() - other.mean()) < 0.05 * other.mean()


def since_first_sample(sequence: BEVSequence) -> BEVSequence:
    """The same without the padding in front of its samples."""
    assert sequence.sample_time is not None
    assert sequence.track_history is not None
    known = torch.isfinite(sequence.sample_time[0])
    return replace(
        sequence,
        sample_time=sequence.sample_time[:, known],
        track_history=sequence.track_history[:, :, known],
    )


def beside_rollout(
    live: Forecaster, history: BEVSequence, ids: list[str] | None = None
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Where live and a rollout forecast the same agents ``(L, A, 2)``, and their tracks.

    Args:
        live: Which was told what is in the history.
        history: Seen from where the ego of ``live`` is now.
        ids: What ``live`` calls each track of the history; None = ``track 0`` and so on.
    """
    ours = live.forecast(6)
    with torch.inference_mode():
        steps = list(rollout(live.model, history, 6))
    rows = [number - 1 for number in steps[0].ids[0].tolist() if number]
    called = [f"track {row}" if ids is None else ids[row] for row in rows]
    assert set(called) == set(ours.ids)
    pose = poses_to_frame(ours.pose, ours.grid_pose)[:, [ours.ids.index(id_) for id_ in called]]
    other = np.stack([step.pose[0, : len(rows)].cpu().numpy() for step in steps])
    return pose[..., :2], other[..., :2], rows


HOUR = int(os.environ.get("FRAMES", "36000"))  # at 10 Hz
MINUTES = 3000


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_an_hour_leaves_nothing_behind() -> None:
    """An hour of traffic at 10 Hz: no more is held than after a minute, and little is remembered.

    Who has been in sight for an hour is forecast as by a forecaster that saw the last 2.4 s, all
    that is remembered in poses; what queries carry from before then changes little.
    """
    long, short = (Forecaster("packaged", fast=True) for _ in range(2))
    held = {}
    for frame in range(HOUR + 1):
        time_s, ego, tracks = traffic(frame)
        long.observe(time_s, ego_pose=ego, tracks=tracks)
        if frame > HOUR - 24:
            short.observe(time_s, ego_pose=ego, tracks=tracks)
        if frame in (600, HOUR):
            assert long._now is not None
            held[frame] = tensor_bytes(long), len(long._now.ids), resident_mib()
    ours, theirs = long.forecast(6), short.forecast(6)
    print({frame: numbers for frame, numbers in held.items()})
    assert held[HOUR][0] <= 1.1 * held[600][0]
    assert held[HOUR][1] <= held[600][1] + 5
    assert held[HOUR][2] < held[600][2] + 64
    assert set(ours.ids) == set(theirs.ids)
    same = [theirs.ids.index(id_) for id_ in ours.ids]
    off = np.linalg.norm((ours.pose - theirs.pose[:, same])[..., :2], axis=-1)
    print(f"after an hour: median {np.median(off):.4f} m, largest {off.max():.4f} m apart")
    assert np.median(off) < 0.06
    assert off.max() < 0.7


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_five_minutes_of_rasters_leave_nothing_behind() -> None:
    """The same with rasters, every 0.5 s, beside a rollout of the last 24 moments."""
    live, held = Forecaster("packaged"), {}
    for frame in range(MINUTES + 1):
        time_s, ego, tracks = traffic(frame)
        live.observe(time_s, ego_pose=ego, tracks=tracks)
        if frame in (600, MINUTES):
            assert live._now is not None
            held[frame] = tensor_bytes(live), len(live._now.ids), resident_mib()
    print(held)
    assert held[MINUTES][0] <= 1.1 * held[600][0]
    assert held[MINUTES][1] <= held[600][1] + 5
    assert held[MINUTES][2] < held[600][2] + 64
    ours, theirs, _ = beside_rollout(live, *recent(MINUTES, live.grid))
    off = np.linalg.norm(ours - theirs, axis=-1)
    print(f"from a rollout: median {np.median(off):.4f} m, largest {off.max():.4f} m apart")
    assert np.median(off) < 0.1
    assert off.max() < 3.0


def recent(last: int, grid: BEVGrid) -> tuple[BEVSequence, list[str]]:
    """The last 24 moments of traffic as the history of a store, and the id of each track in it."""
    told = [traffic(frame) for frame in range(last - 23, last + 1)]
    here = told[-1][1]
    ids = sorted({str(id_) for _, _, tracks in told for id_ in tracks.ids})
    state = np.full((len(ids), len(told), 5), np.nan)
    for sample, (_, _, tracks) in enumerate(told):
        columns = (tracks.x, tracks.y, tracks.yaw, tracks.length, tracks.width)
        rows = [ids.index(str(id_)) for id_ in tracks.ids]
        state[rows, sample] = poses_to_frame(np.column_stack(columns), here)
    frames = [-11, -6, -1]
    ego = poses_to_frame(np.stack([told[frame][1] for frame in frames]), here)
    history = BEVSequence.from_numpy(
        grid,
        0.5,
        ego_pose=ego,
        track_state=state[:, frames],
        track_class=np.ones(len(ids), int),
        track_history=state,
        sample_time=0.1 * np.arange(-23, 1),
    )
    return history, ids


def tensor_bytes(live: Forecaster) -> int:
    sizes: list[int] = []
    assert live._now is not None

    def count(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    map_tensors(replace(live._now.state), count)
    return sum(sizes)


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20
