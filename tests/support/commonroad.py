"""Little CommonRoad scenarios, written as the format's documentation has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.stores import Mover

STEPS = 46
CAR = Mover(0.0, 0.0, yaw=0.3, speed=8.0, turn_rate=0.2)
SLOW = Mover(0.0, 9.0, yaw=0.1, speed=2.0)
RECTANGLE = "<rectangle><length>4.5</length><width>2.0</width></rectangle>"
CIRCLE = "<circle><radius>0.4</radius></circle>"


def exact(value: object) -> str:
    return f"<exact>{value}</exact>"


def interval(start: float, end: float) -> str:
    return f"<intervalStart>{start}</intervalStart><intervalEnd>{end}</intervalEnd>"


def point(x: float, y: float, name: str = "point") -> str:
    return f"<{name}><x>{x!r}</x><y>{y!r}</y></{name}>"


def state(step: object, position: str, yaw: str, tag: str = "state") -> str:
    return (
        f"<{tag}><position>{position}</position><orientation>{yaw}</orientation>"
        f"<time>{step}</time><velocity>{exact(1.0)}</velocity></{tag}>"
    )


def states(mover: Mover, steps: Iterable[int]) -> list[str]:
    made = []
    for step in steps:
        x, y, yaw = mover.state(np.array([step * 0.1]))[0, :3].tolist()
        made.append((exact(step), point(x, y), exact(yaw)))
    return [state(*given, tag="state" if i else "initialState") for i, given in enumerate(made)]


def obstacle(
    name: str,
    moves: Sequence[str],
    kind: str = "car",
    shape: str = RECTANGLE,
    version: str = "2020a",
    role: str = "dynamic",
) -> str:
    tag = "obstacle" if version == "2018b" else f"{role}Obstacle"
    said = f"<role>{role}</role>" if version == "2018b" else ""
    way = f"<trajectory>{''.join(moves[1:])}</trajectory>" if moves[1:] else ""
    return (
        f'<{tag} id="{name}">{said}<type>{kind}</type><shape>{shape}</shape>{moves[0]}{way}</{tag}>'
    )


def bound(name: str, points: Iterable[tuple[float, float]]) -> str:
    return f"<{name}>{''.join(point(*p) for p in points)}<lineMarking>solid</lineMarking></{name}>"


def lanelet(name: str, left: Any, right: Any, *kinds: str) -> str:
    types = "".join(f"<laneletType>{kind}</laneletType>" for kind in kinds)
    sides = bound("leftBound", left) + bound("rightBound", right)
    return f'<lanelet id="{name}">{sides}<successor ref="9"/>{types}</lanelet>'


def scenario(*parts: str, version: str = "2020a", step: object = 0.1) -> str:
    problem = f'<planningProblem id="99">{states(CAR, [0])[0]}</planningProblem>'
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<commonRoad benchmarkID="ZAM_Test-1_1_T-1" '
        f'commonRoadVersion="{version}" timeStepSize="{step}">'
        f"{''.join(parts)}{problem}</commonRoad>"
    )


LANE = lanelet("1", [(-20, 2), (20, 2)], [(-20, -2), (20, -2)], "urban")
LITTLE = scenario(LANE, obstacle("7", states(CAR, range(STEPS))))


# All that the format has, in the older version.
VARIED = scenario(
    LANE,
    lanelet("2", [(0, 0), (0, 9)], [(3, 0), (3, 4), (3, 9)], "crosswalk"),
    obstacle("7", states(CAR, range(STEPS)), version="2018b"),
    obstacle(
        "8",
        [*states(SLOW, range(9)), state(interval(9, 10), CIRCLE, interval(0, 1))],
        "pedestrian",
        f"{CIRCLE}<polygon>{point(0.0, 0.0)}{point(1.0, 0.0)}{point(0.0, 1.0)}</polygon>",
        version="2018b",
    ),
    obstacle("9", states(SLOW, [0]), "parkedVehicle", version="2018b", role="static"),
    version="2018b",
)


def write(path: Path, content: str | bytes = LITTLE) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)
