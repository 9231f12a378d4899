"""Rigid motion in the plane, in float64: x forward, y left, yaw counter-clockwise in radians."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from forecast.angles import wrap_angle

Array = NDArray[np.float64]


def to_frame(points: Array, pose: Array) -> Array:
    """World points in the frame of a pose.

    Args:
        points: ``(..., 2)`` x, y, metres.
        pose: ``(3,)`` x, y, yaw of the frame in the world.

    Returns:
        ``(..., 2)`` x, y in the frame of ``pose``.
    """
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    x, y = points[..., 0] - pose[0], points[..., 1] - pose[1]
    return np.stack([cos * x + sin * y, cos * y - sin * x], axis=-1)


def to_world(points: Array, pose: Array) -> Array:
    """Points in the frame of a pose, in the world: the inverse of :func:`to_frame`.

    Args:
        points: ``(..., 2)`` x, y, metres.
        pose: ``(3,)`` x, y, yaw of the frame in the world.

    Returns:
        ``(..., 2)`` x, y in the world.
    """
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    x, y = points[..., 0], points[..., 1]
    return np.stack([pose[0] + cos * x - sin * y, pose[1] + sin * x + cos * y], axis=-1)


def poses_to_frame(poses: Array, pose: Array) -> Array:
    """World poses in the frame of a pose.

    Args:
        poses: ``(..., 3 or more)`` x, y, yaw and anything that does not move with the frame.
        pose: ``(3,)`` x, y, yaw of the frame in the world.

    Returns:
        The same shape; NaN stays NaN; yaw in [-pi, pi).
    """
    moved = poses.copy()
    moved[..., :2] = to_frame(poses[..., :2], pose)
    moved[..., 2] = wrap_angle(poses[..., 2] - pose[2])
    return moved


def poses_to_world(poses: Array, pose: Array) -> Array:
    """Poses in the frame of a pose, in the world: the inverse of :func:`poses_to_frame`.

    Args:
        poses: ``(..., 3 or more)`` x, y, yaw and anything that does not move with the frame.
        pose: ``(3,)`` x, y, yaw of the frame in the world.

    Returns:
        The same shape; NaN stays NaN; yaw in [-pi, pi).
    """
    moved = poses.copy()
    moved[..., :2] = to_world(poses[..., :2], pose)
    moved[..., 2] = wrap_angle(poses[..., 2] + pose[2])
    return moved


def box_corners(state: Array) -> Array:
    """Corners of boxes, counter-clockwise from the front left.

    Args:
        state: ``(..., 5)`` x, y, yaw, length, width.

    Returns:
        ``(..., 4, 2)`` x, y.
    """
    half = 0.5 * state[..., None, 3:5] * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    cos, sin = np.cos(state[..., 2, None]), np.sin(state[..., 2, None])
    offset = np.stack(
        [cos * half[..., 0] - sin * half[..., 1], sin * half[..., 0] + cos * half[..., 1]], axis=-1
    )
    return cast(Array, state[..., None, :2] + offset)
