"""ROS 2 bags for tests, of movers around an ego, as recorders write them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import numpy as np
from mcap.writer import CompressionType, IndexType
from mcap.writer import Writer as Records
from mcap_ros2.writer import Writer
from numpy.typing import NDArray

from data_tools.formats.ros_messages import (
    DETECTED,
    ODOMETRY,
    TRACKED,
    definition,
    quick,
)
from data_tools.scene import Scene
from forecast.schema import DEFAULT_CLASSES
from tests.support.stores import Mover

Message = dict[str, Any]
Entry = tuple[str, str, Message]  # topic, type, message

OBJECTS, EGO = "/perception/object_recognition/tracking/objects", "/localization/kinematic_state"
DETECTIONS = "/perception/object_recognition/detection/objects"
START_S = 1_700_000_000  # as a clock has it
STEP_S = 0.1
CAR, PEDESTRIAN, BICYCLE = 1, 7, 6
EGO_CAR = Mover(100.0, 200.0, yaw=0.5, speed=5.0, turn_rate=0.1)
MOVERS = (
    Mover(110.0, 204.0, yaw=0.6, speed=6.0),
    Mover(104.0, 195.0, yaw=-1.0, speed=1.2, length=0.8, width=0.8, label=2),
    Mover(95.0, 206.0, yaw=2.0, speed=4.0, turn_rate=-0.1, length=1.8, width=0.8, label=3),
    Mover(112.0, 209.0, yaw=3.0),
)
UNSAID = {"covariance": bytes(288)}
LABELS = {1: CAR, 2: PEDESTRIAN, 3: BICYCLE}


def name_of(number: int) -> str:
    """The id of a mover."""
    return str(uuid5(UUID(int=7), str(number)))


def header(time_s: float, frame: str = "map") -> Message:
    ns = round(time_s * 1e9)
    return {
        "stamp": {"sec": START_S + ns // 10**9, "nanosec": ns % 10**9},
        "frame_id": frame,
    }


def pose(x: float, y: float, yaw: float) -> Message:
    turn = {"x": 0.0, "y": 0.0, "z": float(np.sin(yaw / 2)), "w": float(np.cos(yaw / 2))}
    return {"position": {"x": float(x), "y": float(y), "z": 1.0}, "orientation": turn}


def box(length: float, width: float) -> Message:
    return {"type": 0, "dimensions": {"x": float(length), "y": float(width), "z": 1.5}}


def thing(state: Sequence[float], number: int, label: int = CAR, **changes: Any) -> Message:
    """An object whose box is ``state``; ``yaw_told`` and ``shape`` may be others."""
    x, y, yaw, length, width = state
    forward = {"linear": {"x": changes.get("forward", 0.0), "y": 0.0, "z": 0.0}}
    return {
        "object_id": {"uuid": UUID(name_of(number)).bytes},
        "existence_probability": changes.get("score", 0.75),
        "classification": [
            {"label": 0, "probability": 0.25},
            {"label": label, "probability": 0.5},
        ],
        "kinematics": {
            "pose_with_covariance": {"pose": pose(x, y, yaw), **UNSAID},
            "twist_with_covariance": {"twist": forward, **UNSAID},
            "acceleration_with_covariance": UNSAID,
            "orientation_availability": changes.get("yaw_told", 2),
        },
        "shape": changes.get("shape", box(length, width)),
    }


def objects(time_s: float, things: Iterable[Message], frame: str = "map") -> Message:
    return {"header": header(time_s, frame), "objects": list(things)}


def odometry(
    time_s: float, place: Sequence[float], frame: str = "map", child: str = "base_link"
) -> Message:
    return {
        "header": header(time_s, frame),
        "child_frame_id": child,
        "pose": {"pose": pose(*place[:3]), **UNSAID},
        "twist": UNSAID,
    }


def states(movers: Sequence[Mover], time_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes ``(N, T, 5)``."""
    return np.stack([mover.state(time_s) for mover in movers])


def drive(
    movers: Sequence[Mover] = MOVERS,
    seconds: float = 5.0,
    kind: str = TRACKED,
    topic: str = OBJECTS,
    **changes: Any,
) -> list[Entry]:
    """Objects at 10 Hz, and the ego at 20 Hz."""
    time_s = np.arange(round(seconds / STEP_S) + 1) * STEP_S
    entries: list[Entry] = []
    for at in np.arange(2 * len(time_s) - 1) * STEP_S / 2:
        place = EGO_CAR.state(np.array([at]))[0]
        entries.append((EGO, ODOMETRY, odometry(at, place)))
    for at, boxes in zip(time_s, states(movers, time_s).swapaxes(0, 1), strict=True):
        things = [
            thing(one, number, LABELS[mover.label], **changes)
            for number, (one, mover) in enumerate(zip(boxes, movers, strict=True))
        ]
        entries.append((topic, kind, objects(at, things)))
    entries.sort(key=lambda entry: stamp_ns(entry[2]))
    return entries


def of_scene(scene: Scene) -> list[Entry]:
    """A scene as a stack records it, message by message; track n has the id ``name_of(n)``."""
    entries: list[Entry] = []
    for at, boxes, place in zip(
        scene.time_s, scene.state.swapaxes(0, 1), scene.ego_pose, strict=True
    ):
        things = [
            thing(boxes[n], n, LABELS[DEFAULT_CLASSES.index(scene.track_class[n]) + 1])
            for n in np.flatnonzero(np.isfinite(boxes[:, 0])).tolist()
        ]
        entries += [(EGO, ODOMETRY, odometry(at, place)), (OBJECTS, TRACKED, objects(at, things))]
    return entries


def detections(**changes: Any) -> list[Entry]:
    """The same objects without ids."""
    return drive(kind=DETECTED, topic=DETECTIONS, **changes)


def stamp_ns(message: Message) -> int:
    stamp = message["header"]["stamp"]
    return int(stamp["sec"]) * 10**9 + int(stamp["nanosec"])


def write_bag(
    path: Path, entries: Iterable[Entry], texts: dict[str, str] | None = None, **packing: Any
) -> str:
    """Writes messages in their order; ``texts`` are definitions of types other than ours."""
    output = io.BytesIO()
    writer = Writer(output, **packing)
    schemas: dict[str, Any] = {}
    for topic, kind, message in entries:
        if kind not in schemas:
            text = (texts or {}).get(kind) or definition(kind)
            registered = writer.register_msgdef(kind, text)
            schemas[kind] = replace(registered, data=quick(text).encode())
        writer.write_message(topic, schemas[kind], message, log_time=stamp_ns(message))
    writer.finish()
    path.write_bytes(output.getvalue())
    return str(path)


def without_index(path: Path) -> None:
    """Writes a bag anew as one that has no summary and no chunks."""
    from mcap.reader import make_reader

    output = io.BytesIO()
    with path.open("rb") as file:
        writer = Records(
            output,
            compression=CompressionType.NONE,
            index_types=IndexType.NONE,
            repeat_channels=False,
            repeat_schemas=False,
            use_chunking=False,
            use_statistics=False,
            use_summary_offsets=False,
        )
        writer.start(profile="ros2", library="tests")
        ids: dict[int, int] = {}
        for schema, channel, message in make_reader(file).iter_messages(log_time_order=False):
            assert schema is not None
            if channel.id not in ids:
                kind = writer.register_schema(schema.name, schema.encoding, schema.data)
                ids[channel.id] = writer.register_channel(channel.topic, "cdr", kind)
            writer.add_message(
                ids[channel.id], message.log_time, message.data, message.publish_time
            )
        writer.finish()
    path.write_bytes(output.getvalue())
