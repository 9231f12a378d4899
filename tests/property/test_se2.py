import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from forecast.model.scene import se2

metre = st.floats(-100, 100)
angle = st.floats(-3.1, 3.1)
poses = st.tuples(metre, metre, angle).map(lambda pose: torch.tensor(pose, dtype=torch.float64))


def matrix(pose: Tensor) -> Tensor:
    x, y, yaw = pose.tolist()
    cos, sin = math.cos(yaw), math.sin(yaw)
    rows = [[cos, -sin, x], [sin, cos, y], [0.0, 0.0, 1.0]]
    return torch.tensor(rows, dtype=torch.float64)


@given(poses, poses)
def test_compose_is_the_product_of_matrices(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(matrix(se2.compose(a, b)), matrix(a) @ matrix(b))


@given(poses, poses)
def test_between_is_what_leads_from_one_pose_to_the_other(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(matrix(se2.compose(a, se2.between(a, b))), matrix(b))


@given(poses)
def test_exp_is_the_matrix_exponential_and_log_its_inverse(twist: Tensor) -> None:
    x, y, turn = twist.tolist()
    rows = [[0.0, -turn, x], [turn, 0.0, y], [0.0, 0.0, 0.0]]
    expected = torch.linalg.matrix_exp(torch.tensor(rows, dtype=torch.float64))
    torch.testing.assert_close(matrix(se2.exp(twist)), expected)
    torch.testing.assert_close(se2.log(se2.exp(twist)), twist, atol=1e-6, rtol=1e-6)


def test_exp_and_log_have_gradients_where_nothing_turns() -> None:
    twist = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: se2.log(se2.exp(t)), twist)


def test_a_way_that_leads_nowhere_has_a_course_and_gradients() -> None:
    way = torch.tensor([[0.0, 0.0], [0.0, 2.0], [-1.0, 0.0]], requires_grad=True)
    course = se2.course(way)
    torch.testing.assert_close(course.detach(), torch.tensor([0.0, torch.pi / 2, torch.pi]))
    course.sum().backward()
    assert way.grad is not None
    torch.testing.assert_close(way.grad, torch.tensor([[0.0, 1.0], [-0.5, 0.0], [0.0, -1.0]]))


def test_many_poses_at_once_are_each_what_it_would_be_alone() -> None:
    poses = torch.rand(2, 3, 3, dtype=torch.float64) * 4 - 2
    others = torch.rand(2, 3, 3, dtype=torch.float64) * 4 - 2
    for each in (se2.exp, se2.log):
        alone = torch.stack([each(pose) for pose in poses.flatten(0, 1)])
        torch.testing.assert_close(each(poses).flatten(0, 1), alone)
    for both in (se2.compose, se2.between):
        pairs = zip(poses.flatten(0, 1), others.flatten(0, 1), strict=True)
        alone = torch.stack([both(a, b) for a, b in pairs])
        torch.testing.assert_close(both(poses, others).flatten(0, 1), alone)
