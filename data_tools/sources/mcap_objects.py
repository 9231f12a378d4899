"""What messages say of objects and of the ego, as arrays.

- Shapes other than a box become the box around them that heads as the object does.
- Where the heading is not known, that is the smallest box around them, and the longer side of any
  box is its length, for most things move along it.
- Sizes, headings and places that are no numbers, or none that a thing can have, are not known.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from uuid import UUID

import numpy as np
import shapely
from numpy.typing import NDArray

from data_tools.formats import ros_bag
from data_tools.formats.ros_messages import (
    CYLINDER,
    LABELS,
    ODOMETRY,
    POLYGON,
    YAW_SIGN_UNKNOWN,
    YAW_UNAVAILABLE,
    decoder,
)
from data_tools.scene import FARTHEST_M, LONGEST_M
from forecast.errors import DataError, reason_of

Array = NDArray[np.float64]

SHORTEST_M = 0.01  # stores keep sides as float32
NORM_OFF = 0.1  # by which the norm of a quaternion may be off 1
MOST_OBJECTS = 2**22  # of a bag; 100 of them at 10 Hz fill an hour
COLUMNS = ("x", "y", "yaw", "length", "width", "score", "forward", "sign_unknown", "is_box")
LATE = "messages later in the bag than others of later stamps, sorted"
APART_NS = 100_000  # messages closer than that are of one time
TWICE = "messages that are in the bag twice, one left out"
MOST_FRAMES = 4  # of reference, named in a message


class _ImpossibleError(ValueError):
    """A message is whole and says what cannot be, which no repair of the bag would change."""


@dataclass(frozen=True)
class ObjectMessage:
    """The objects of one message.

    Args:
        stamp_ns: Its time, nanoseconds.
        frame: The frame of reference of its poses.
        ids: ``(n,)`` of each object as text; empty for detections.
        labels: ``(n,)`` what each most probably is.
        values: ``(n, 9)`` of each object :data:`COLUMNS`: its box, NaN = not known; probability
            that it exists; speed along its heading; whether that may point backwards; whether its
            shape is a box.
        digest: Of the message's bytes.
    """

    stamp_ns: int
    frame: str
    ids: tuple[str, ...]
    labels: tuple[str, ...]
    values: Array
    digest: int


@dataclass(frozen=True)
class EgoMessage:
    """The pose of the ego at a time: x, y, yaw in ``frame``, of the frame ``child``."""

    stamp_ns: int
    frame: str
    child: str
    pose: tuple[float, float, float]
    digest: int


@dataclass(frozen=True)
class Content:
    """Objects and ego of a bag, each in the order of time and of one frame of reference."""

    objects: list[ObjectMessage]
    ego: list[EgoMessage]
    notes: Counter[str]


def read_bag(path: str, objects: str, kind: str, odometry: str) -> Content:
    """Reads the objects and the ego of a bag.

    Args:
        path: Of the bag.
        objects: Topic of the objects.
        kind: Type of its messages.
        odometry: Topic of the odometry.

    Raises:
        DataError: The bag or a message in it is damaged or says what cannot be, or a topic has no
            message, two different ones of one time, or two frames of reference.
    """
    decode = {objects: decoder(kind), odometry: decoder(ODOMETRY)}
    seen: list[ObjectMessage] = []
    ego: list[EgoMessage] = []
    count = 0
    for topic, content in ros_bag.messages(path, {objects: kind, odometry: ODOMETRY}):
        try:
            message = decode[topic](content)
            if topic == odometry:
                ego.append(_ego(message, hash(content)))
            else:
                seen.append(_objects(message, hash(content)))
                count += len(seen[-1].labels)
        except _ImpossibleError as error:
            stamp = message.header.stamp
            raise DataError(
                f"messages on {topic} that can be true",
                f"{error} at {stamp.sec}.{stamp.nanosec:09d} s in {path}",
                "mend what publishes it, or leave the bag out",
            ) from error
        except Exception as error:  # damaged bytes make the decoder raise whatever there is
            raise DataError(
                f"whole messages on {topic}",
                f"a damaged one ({reason_of(error)}) in {path}",
                ros_bag.CUT_SHORT,
            ) from error
        if count > MOST_OBJECTS:
            raise DataError(f"{MOST_OBJECTS} objects at most", f"more in {path}", "split the bag")
    children = [message.child for message in ego]
    _refuse_several(children, "child_frame_id", f"on {odometry} of {path}")
    notes = Counter[str]()
    return Content(
        _in_order(seen, objects, path, notes), _in_order(ego, odometry, path, notes), notes
    )


def _refuse_several(names: Iterable[str], what: str, where: str) -> None:
    """Refuses frames of reference that change.

    Raises:
        DataError: There are several.
    """
    different = sorted(set(names))
    if len(different) > 1:
        found = " and ".join(map(repr, different[:MOST_FRAMES]))
        remedy = "split the bag, or record each publisher on a topic of its own"
        raise DataError(f"one {what}", f"{found} {where}", remedy)


class _Stamped(Protocol):
    @property
    def stamp_ns(self) -> int: ...
    @property
    def frame(self) -> str: ...
    @property
    def digest(self) -> int: ...


_S = TypeVar("_S", bound=_Stamped)


def _in_order(found: Sequence[_S], topic: str, path: str, notes: Counter[str]) -> list[_S]:
    """Messages in the order of their stamps, each once.

    Raises:
        DataError: There is none, or two differ of one stamp or have different frames of reference.
    """
    where = f"on {topic} of {path}"
    if not found:
        raise DataError("messages", f"none {where}", "choose another topic, or leave the bag out")
    _refuse_several((message.frame for message in found), "frame of reference", where)
    stamps = np.array([message.stamp_ns for message in found])
    notes[LATE] += int((np.diff(stamps) < 0).sum())
    ordered: list[_S] = []
    for place in np.argsort(stamps, kind="stable"):
        message = found[place]
        if not ordered or message.stamp_ns >= ordered[-1].stamp_ns + APART_NS:
            ordered.append(message)
        elif message.digest == ordered[-1].digest:
            notes[TWICE] += 1
        else:
            raise DataError(
                "one message a time",
                f"two different ones at {message.stamp_ns / 1e9:.9f} s {where}",
                "record each publisher on a topic of its own",
            )
    return ordered


def _stamp_ns(header: Any) -> int:
    if header.stamp.nanosec >= 10**9:
        raise _ImpossibleError(f"a stamp of {header.stamp.nanosec} ns")
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)


def _frame(name: str) -> str:
    return name.removeprefix("/")


def _ego(message: Any, digest: int) -> EgoMessage:
    pose = message.pose.pose
    place = pose.position.x, pose.position.y, _yaw(pose.orientation)
    if not all(map(math.isfinite, place)):
        raise _ImpossibleError("a pose of the ego without numbers, or without a heading")
    if max(map(abs, place[:2])) >= FARTHEST_M:
        raise _ImpossibleError(f"the ego at x = {place[0]:g}, y = {place[1]:g} m, not on Earth")
    frames = _frame(message.header.frame_id), _frame(message.child_frame_id)
    return EgoMessage(_stamp_ns(message.header), *frames, place, digest)


def _objects(message: Any, digest: int) -> ObjectMessage:
    objects = message.objects
    ids = tuple(str(UUID(bytes=one.object_id.uuid)) for one in objects if hasattr(one, "object_id"))
    if len(set(ids)) < len(ids):
        raise _ImpossibleError(f"two objects {max(ids, key=ids.count)} in a message")
    values = np.array([_values(one) for one in objects], np.float64).reshape(-1, len(COLUMNS))
    return ObjectMessage(
        _stamp_ns(message.header),
        _frame(message.header.frame_id),
        ids,
        tuple(map(_label, objects)),
        values,
        digest,
    )


def _label(one: Any) -> str:
    """The most probable label; of as probable ones the first.

    Raises:
        _ImpossibleError: A probability is none.
    """
    if not one.classification:
        return LABELS[0]
    for said in one.classification:
        if not 0 <= said.probability < math.inf:  # False for NaN
            raise _ImpossibleError(f"a class probability of {said.probability:g}")
    number = max(one.classification, key=lambda said: said.probability).label
    return LABELS[number] if number < len(LABELS) else f"LABEL_{number}"


def _values(one: Any) -> tuple[float, ...]:
    """One object's :data:`COLUMNS`.

    Raises:
        _ImpossibleError: Its probability is none.
    """
    if not 0 <= one.existence_probability <= 1:
        raise _ImpossibleError(f"an existence probability of {one.existence_probability:g}")
    pose, told = one.kinematics.pose_with_covariance.pose, one.kinematics.orientation_availability
    turn = _yaw(pose.orientation)
    yaw = math.nan if told == YAW_UNAVAILABLE else turn
    x, y = pose.position.x, pose.position.y
    ahead, left, length, width = _box(one.shape, heading_known=math.isfinite(yaw))
    # A footprint lies as the quaternion turns it even if that is not where the object heads.
    cos, sin = (math.cos(turn), math.sin(turn)) if math.isfinite(turn) else (1.0, 0.0)
    return (
        *(x + cos * ahead - sin * left, y + sin * ahead + cos * left, yaw),
        *(length, width, one.existence_probability),
        *(one.kinematics.twist_with_covariance.twist.linear.x, told == YAW_SIGN_UNKNOWN),
        one.shape.type not in (CYLINDER, POLYGON),
    )


def _box(shape: Any, heading_known: bool) -> tuple[float, float, float, float]:
    """Centre, length and width of the box around a shape, in the frame of the object's pose."""
    ahead, left, length, width = 0.0, 0.0, shape.dimensions.x, shape.dimensions.y
    if shape.type == CYLINDER:
        width = length
    elif shape.type == POLYGON:
        points = np.array([(point.x, point.y) for point in shape.footprint.points])
        if len(points) < 3 or not np.isfinite(points).all():
            return 0.0, 0.0, math.nan, math.nan
        ahead, left, length, width = (_along if heading_known else _tightest)(points)
    if not all(SHORTEST_M <= side <= LONGEST_M for side in (length, width)):  # False for NaN
        return 0.0, 0.0, math.nan, math.nan
    if not heading_known:
        length, width = max(length, width), min(length, width)
    return ahead, left, length, width


def _along(points: Array) -> tuple[float, float, float, float]:
    """Centre and sides of the box around points ``(n, 2)`` along x and y."""
    low, high = points.min(axis=0), points.max(axis=0)
    return (*((low + high) / 2).tolist(), *(high - low).tolist())


def _tightest(points: Array) -> tuple[float, float, float, float]:
    """Centre and sides of the smallest box around points ``(n, 2)``, however it is turned."""
    corners = shapely.get_coordinates(shapely.minimum_rotated_rectangle(shapely.MultiPoint(points)))
    if len(corners) < 4:  # all on one line
        return 0.0, 0.0, math.nan, math.nan
    sides = np.hypot(*np.diff(corners[:3], axis=0).T)
    return (*((corners[0] + corners[2]) / 2).tolist(), *sides.tolist())


def _yaw(q: Any) -> float:
    """The yaw of a quaternion, radians; NaN where it is none."""
    norm = math.sqrt(q.x * q.x + q.y * q.y + q.z * q.z + q.w * q.w)
    if not abs(norm - 1) <= NORM_OFF:  # False for NaN
        return math.nan
    return math.atan2(2 * (q.w * q.z + q.x * q.y), q.w * q.w + q.x * q.x - q.y * q.y - q.z * q.z)
