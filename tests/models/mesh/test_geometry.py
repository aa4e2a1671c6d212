"""Poses of heads: found as they were made, and rotations there and back."""

import math

import pytest
import torch

from kinecast.models.mesh.geometry import Pose, fit_pose, rotation_matrix, rotation_vector


@pytest.fixture
def head() -> torch.Tensor:
    points = torch.randn(478, 3, generator=torch.Generator().manual_seed(0))
    return points - points.mean(dim=0)


def test_a_pose_is_found_as_it_was_made(head):
    vectors = torch.tensor([[0.1, -0.5, 0.2], [0.0, 0.0, 0.0], [-0.3, 1.0, 0.1]])
    made = Pose(rotation_matrix(vectors), torch.randn(3, 3), torch.tensor([0.5, 1.0, 2.0]))
    found = fit_pose(made.place(head.expand(3, -1, -1)), head)
    for was, now in zip(made, found, strict=True):
        torch.testing.assert_close(now, was, atol=1e-4, rtol=1e-4)


def test_undoing_a_pose_gives_the_head_back(head):
    pose = Pose(rotation_matrix(torch.tensor([[0.3, 0.2, -0.1]])), torch.randn(1, 3), torch.tensor([1.7]))
    torch.testing.assert_close(pose.undo(pose.place(head[None]))[0], head, atol=1e-5, rtol=1e-5)


def test_a_mirrored_head_is_not_fitted_by_a_reflection(head):
    pose = fit_pose((head * torch.tensor([-1.0, 1.0, 1.0]))[None], head)
    assert torch.det(pose.rotation[0]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-3, 0.5, 2.0, math.pi - 0.01])
def test_rotation_vectors_and_matrices_are_inverse(angle):
    axis = torch.nn.functional.normalize(torch.tensor([[1.0, -2.0, 0.5]]), dim=1)
    matrix = rotation_matrix(axis * angle)
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3)[None], atol=1e-5, rtol=0)
    torch.testing.assert_close(rotation_vector(matrix), axis * angle, atol=2e-4, rtol=1e-3)
