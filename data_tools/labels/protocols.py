"""Label protocols: named rules by which tracks become the label rasters of one sequence.

``exact`` and ``exact-small`` are ours. ``fiery``, ``uniad`` and ``powerbev`` make the labels that
those repositories score against, to measure how much of a difference between published numbers is
due to labels. They differ from the repositories where a recording or a store lacks what these use:

- Rasters are in the frame that the source gives the ego; UniAD's are in that of its lidar, which
  is 0.94 m ahead of it.
- Which classes are drawn is the user's choice. All three draw ``vehicle.*`` of nuScenes as one.
- An ego that has a track is drawn. In nuScenes itself it has none.
- A box is drawn if the centre of its track is inside the grid at some frame, as in every store. The
  repositories also draw boxes of which only corners are ever inside.
- Of overlapping boxes the track that enters the grid later is on top; there it is the annotation
  that comes later in the tables.
- Which agents are hardly visible is known of nuScenes only (``Scene.hidden``).
- Frames before the present, which they do not score, are drawn by the same rules.

A protocol draws labels and nothing else. ``track_state`` holds the measured tracks, also of agents
that the rasters leave out, hold still or invent. So what tracked input reads, which agents count as
moving, and distances in metres are the same in all protocols.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_tools.geometry import box_corners, poses_to_frame, to_frame
from data_tools.labels.fill import fill_polygons
from data_tools.labels.rasterise import rasterise_boxes
from forecast.grid import BEVGrid
from forecast.schema import SMALL_DRAWN, Protocol

Array = NDArray[np.float64]
Labels = NDArray[np.uint16]

FILLED = "cv2.fillPoly with corners rounded to cells"


@dataclass(frozen=True)
class Traffic:
    """The tracks of one sequence in its present ego frame.

    Args:
        state: ``(N, T, 5)`` x, y, yaw, length, width; NaN where absent. Track n has id n + 1.
        hidden: ``(N, T)`` whether the source says that it is hardly visible.
        ego_pose: ``(T, 3)`` x, y, yaw.
        world_yaw: Heading of the present ego frame in the recording's, radians.
        history: Frames up to and including the present.
    """

    state: Array
    hidden: NDArray[np.bool_]
    ego_pose: Array
    world_yaw: float
    history: int


@dataclass(frozen=True)
class Exact(Protocol):
    """Boxes in the present ego frame, drawn once by the cell-centre rule, smaller ones on top."""

    def draw(self, traffic: Traffic, grid: BEVGrid) -> Labels:
        """Label rasters ``(T, height, width)``: 0 background, else id."""
        return _draw_boxes(traffic, grid, least_cell=False)


@dataclass(frozen=True)
class ExactSmall(Protocol):
    """As :class:`Exact`, but no agent on the grid is too small for it: it has one cell at least."""

    name: str = SMALL_DRAWN
    small: str = "the cell that it stands in, if no cell centre lies inside the box"

    def draw(self, traffic: Traffic, grid: BEVGrid) -> Labels:
        """Label rasters ``(T, height, width)``: 0 background, else id."""
        return _draw_boxes(traffic, grid, least_cell=True)


@dataclass(frozen=True)
class Fiery(Protocol):
    """Each frame drawn around its own ego, then the raster warped to the present one.

    Cells outside the other frame's grid are empty. The warp mirrors the translation: it is the
    inverse of the ego's motion only where that is a symmetric arc, whose chord points half the
    turn to the side. Elsewhere labels are displaced, as they are in FIERY.

    Source:
        Hu et al., FIERY, ICCV 2021: ``fiery/data.py``, ``prepare_future_labels`` of
        ``fiery/trainer.py``, ``warp_features`` of ``fiery/utils/geometry.py``, which computes in
        float32: cells whose source lies on a border may come out otherwise.
    """

    name: str = "fiery"
    frame: str = "own ego, then warped to the present ego"
    cell_rule: str = FILLED
    overlap: str = "later track on top"
    warp: str = "nearest cell, translation mirrored"
    hidden: str = "not drawn"

    def draw(self, traffic: Traffic, grid: BEVGrid) -> Labels:
        """Label rasters ``(T, height, width)``: 0 background, else id."""
        seen = _without(traffic.state, traffic.hidden)
        frames = []
        for frame, pose in enumerate(traffic.ego_pose):
            own = _fill_boxes(poses_to_frame(seen[:, frame, None], pose), grid)[0]
            frames.append(self._to_present(own, pose, grid))
        return np.stack(frames)

    @staticmethod
    def _to_present(label: Labels, pose: Array, grid: BEVGrid) -> Labels:
        x, y = np.meshgrid(grid.x_m, grid.y_m)
        cos, sin = np.cos(pose[2]), np.sin(pose[2])
        there_x = cos * x + sin * y - pose[0]
        there_y = cos * y - sin * x + pose[1]
        column = np.rint((there_x - grid.x_min_m) / grid.resolution_m - 0.5).astype(np.int64)
        row = np.rint((there_y - grid.y_min_m) / grid.resolution_m - 0.5).astype(np.int64)
        covered = (row >= 0) & (row < grid.height) & (column >= 0) & (column < grid.width)
        found = label[row.clip(0, grid.height - 1), column.clip(0, grid.width - 1)]
        return np.where(covered, found, 0).astype(np.uint16)


@dataclass(frozen=True)
class UniAD(Protocol):
    """Boxes in the present frame, drawn once, on a picture that counts its columns from the left.

    In UniAD 255 means "ignore", so it draws agent 255 as -20. Here no id has that meaning, and
    agent 255 keeps its id in the same cells.

    Source:
        Hu et al., UniAD, CVPR 2023: ``datasets/pipelines/occflow_label.py``.
    """

    name: str = "uniad"
    cell_rule: str = f"{FILLED}, from the grid's left"
    overlap: str = "later track on top"
    hidden: str = "not drawn"

    def draw(self, traffic: Traffic, grid: BEVGrid) -> Labels:
        """Label rasters ``(T, height, width)``: 0 background, else id."""
        mirrored = _without(traffic.state, traffic.hidden)
        mirrored[..., 1:3] *= -1
        across = BEVGrid(
            grid.x_min_m, grid.x_max_m, -grid.y_max_m, -grid.y_min_m, grid.resolution_m
        )
        return _fill_boxes(mirrored, across)[:, ::-1]


@dataclass(frozen=True)
class PowerBEV(Protocol):
    """Boxes in the present frame, wholly inside the grid, held still until they have moved enough.

    An agent is where it was last kept until it is further than ``hold_m`` from there along the
    world's x or y, and at frames without it; its size is that of its first frame. After the
    present only those are drawn that were drawn up to then. A hardly visible agent
    begins when it is better visible.

    Source:
        Li et al., PowerBEV, IJCAI 2023: ``record_instance``, ``refine_instance_poly`` and
        ``get_label`` of ``powerbev/data.py``.
    """

    name: str = "powerbev"
    cell_rule: str = FILLED
    overlap: str = "later track on top"
    border: str = "boxes not wholly inside the grid are not drawn"
    hold_m: float = 1.0
    gaps: str = "last pose"
    newcomers: str = "not drawn"
    hidden: str = "not drawn before first seen"

    def draw(self, traffic: Traffic, grid: BEVGrid) -> Labels:
        """Label rasters ``(T, height, width)``: 0 background, else id."""
        held = self._held(traffic)
        whole = _wholly_inside(held, grid)
        whole[:, traffic.history :] &= whole[:, : traffic.history].any(axis=1, keepdims=True)
        return _fill_boxes(_without(held, ~whole), grid)

    def _held(self, traffic: Traffic) -> Array:
        """Tracks as they are drawn, ``(N, T, 5)``; NaN before their first frame."""
        to_world = np.array([0.0, 0.0, -traffic.world_yaw])
        kept = np.full((len(traffic.state), 5), np.nan)
        frames = []
        for frame in range(traffic.state.shape[1]):
            now, known = traffic.state[:, frame], np.isfinite(kept[:, 0])
            there = np.isfinite(now[:, 0])
            moved = np.abs(to_frame(now[:, :2] - kept[:, :2], to_world))
            gone = known & there & (moved > self.hold_m).any(axis=1)
            begun = ~known & there & ~traffic.hidden[:, frame] & (frame < traffic.history)
            kept[begun] = now[begun]
            kept[gone, :3] = now[gone, :3]
            frames.append(kept.copy())
        return np.stack(frames, axis=1)


PROTOCOLS: dict[str, Exact | ExactSmall | Fiery | UniAD | PowerBEV] = {
    known.name: known for known in (Exact(), ExactSmall(), Fiery(), UniAD(), PowerBEV())
}


def _draw_boxes(traffic: Traffic, grid: BEVGrid, least_cell: bool) -> Labels:
    track, frame = np.nonzero(np.isfinite(traffic.state[..., 0]))
    return rasterise_boxes(
        traffic.state[track, frame],
        frame,
        (track + 1).astype(np.uint16),
        traffic.state.shape[1],
        grid,
        least_cell,
    )


def _without(state: Array, left_out: NDArray[np.bool_]) -> Array:
    return np.where(left_out[..., None], np.nan, state)


def _wholly_inside(state: Array, grid: BEVGrid) -> NDArray[np.bool_]:
    """Whether all corners of each box are inside the grid or on its edge; False where absent."""
    x, y = np.moveaxis(box_corners(state), -1, 0)
    inside: NDArray[np.bool_] = (
        (x >= grid.x_min_m) & (x <= grid.x_max_m) & (y >= grid.y_min_m) & (y <= grid.y_max_m)
    ).all(axis=-1)
    return inside


def _fill_boxes(state: Array, grid: BEVGrid) -> Labels:
    """Fills boxes as the other repositories do, later tracks on top.

    Boxes ``(N, T, 5)`` become ``(T, height, width)``. Corners are counted in cells from the grid's
    low edges and rounded, halves to even; as the cells at both ends are filled, a box grows by a
    cell towards high x and y. Their pictures have x down and y to the right, on which OpenCV's fill
    depends.
    """
    track, frame = np.nonzero(np.isfinite(state[..., 0]))
    corners = box_corners(state[track, frame])
    across = (corners[..., 1] - grid.y_min_m) / grid.resolution_m
    down = (corners[..., 0] - grid.x_min_m) / grid.resolution_m
    pixels = np.rint(np.stack([across, down], axis=-1)).astype(np.int64)
    box, row, column = fill_polygons(pixels, (grid.width, grid.height))
    label = np.zeros((state.shape[1], *grid.shape), np.uint16)
    # Of repeated indices the last is kept, which is the later track.
    label[frame[box], column, row] = track[box] + 1
    return label
