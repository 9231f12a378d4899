"""What is parked stands still: rasters, frames and poses in another orientation are found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from forecast.doctor.orientation import TURNED, FramesStandStill, RastersFitBoxes
from tests.support.driving import PARKED, asked, driving, masks_of, moved_by, own_frames, turned
from tests.support.stores import Mover

MIRROR = TURNED["mirrored left to right"]


def test_right_frames_are_fine() -> None:
    clip = driving()
    assert clip.state is not None
    assert asked(FramesStandStill(), [clip, masks_of(clip, clip.state)]) == []


@pytest.mark.parametrize("name", TURNED)
def test_rasters_in_another_orientation_are_named(name: str) -> None:
    clip = driving()
    wrong = moved_by(turned(own_frames(clip), TURNED[name]), clip.ego_pose)
    (found,) = asked(FramesStandStill(), [masks_of(clip, wrong)])
    assert f"frames are {name}" in found.text


def test_left_handed_poses_are_found() -> None:
    clip = driving()
    poses = clip.ego_pose * (1, -1, -1)
    wrong = replace(clip, ego_pose=poses)
    (found,) = asked(FramesStandStill(), [masks_of(wrong, moved_by(own_frames(clip), poses))])
    assert "negate their y and yaw" in found.text


@pytest.mark.parametrize("masks", [False, True])
def test_frames_that_were_not_moved_are_found(masks: bool) -> None:
    clip = driving()
    own = own_frames(clip)
    wrong = masks_of(clip, own) if masks else replace(clip, state=own)
    (found,) = asked(FramesStandStill(), [wrong])
    assert "5 agents stand still only if each frame is moved by its ego pose" in found.text


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("factor", [-1.0, 2.0], ids=["oncoming", "overtaking"])
def test_traffic_at_a_multiple_of_the_egos_speed_is_fine(factor: float, masks: bool) -> None:
    ego = Mover(0.0, 0.0, speed=6.0)
    yaw, speed = (0.0 if factor > 0 else np.pi), abs(factor) * ego.speed
    clip = driving([Mover(-9.0 + 8 * i, 4.0, yaw, speed) for i in range(5)], ego)
    assert clip.state is not None
    assert asked(FramesStandStill(), [masks_of(clip, clip.state) if masks else clip]) == []


def test_a_wrong_scene_among_right_ones_is_named() -> None:
    clip = driving()
    wrong = replace(clip, state=moved_by(turned(own_frames(clip), MIRROR), clip.ego_pose))
    scenes = ["a", "b", "c", "d", "e"]
    (found,) = asked(FramesStandStill(), [clip, clip, wrong, clip, clip], scenes)
    assert (found.sequence, found.scene) == (2, "c")


def test_an_ego_that_stands_tells_nothing() -> None:
    assert asked(FramesStandStill(), [driving(ego=Mover(0.0, 0.0))]) == []


@pytest.mark.parametrize("name", TURNED)
def test_masks_in_another_orientation_than_boxes_are_named(name: str) -> None:
    clip = driving(PARKED)
    assert clip.state is not None
    assert asked(RastersFitBoxes(), [clip]) == []
    masks = masks_of(clip, turned(clip.state, TURNED[name])).instance
    (found,) = asked(RastersFitBoxes(), [replace(clip, instance=masks)])
    assert f"rasters are {name} (0 as they are)" in found.text
