"""The driven face rasterised on a grid: the source position of each cell, and features of the surface there.

Notation: B batch, V points (478 landmarks), h x w the grid. Coordinates run from -1 to 1; a flow gives, for
each place of the driven picture, the place of the source to read.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kinecast.models.mesh.geometry import Pose
from kinecast.models.mesh.mouth import hang_teeth
from kinecast.models.mesh.raster import rasterize, rows_of
from kinecast.models.mesh.topology import IRISES, KINDS, OVAL, Topology

CHANNELS = len(KINDS) + 1 + 3 + 3 + 2  # kinds, iris, place on the face, normal, stretch, facing
LAYERS = 4  # candidates of the flow, see `candidates`
_HEAD_ENDS = 1.7  # times the reach of the face's outline, and half of it to fade
_HAIR = 2.2  # times the reach of the face's outline: hair hides the background up to there
_HIDDEN = 10.0  # less is the background's logit where it would show hair that has moved away
_NECK_LENGTH = 0.6  # from the chin to the shoulders, in head sizes
_STILL = 0.25  # of a place of the grid: less movement is none that can be seen
_IRIS_REACH = 1.5  # radii of an iris within which the eyeball moves with it


@dataclass(frozen=True)
class Drawing:
    """A driven face on the grid.

    `flow` (B, 2, h, w) is that of the mesh, undefined where `inside` (B, 1, h, w) is 0; `features` (B, CHANNELS, h, w)
    are the network's input: the kind of tissue, irises, place on the mean face, normals, how far the source is
    stretched (log2 of the areas' ratio), and how far the source showed it (z of its normals). `dark` (B, 1, h, w) is
    the inside of a mouth below teeth, see `mouth`.
    """

    flow: Tensor
    inside: Tensor
    features: Tensor
    dark: Tensor


def grid_of(height: int, width: int, like: Tensor) -> Tensor:
    """Return the places' coordinates (2, h, w)."""
    y = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) * (2 / height) - 1
    x = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) * (2 / width) - 1
    return torch.stack((x.expand(height, width), y[:, None].expand(height, width)))


def draw(source: Tensor, driven: Tensor, topology: Topology, size: int) -> Drawing:
    """Draw points `driven` (B, V, 3) on a square grid; `source` (B, V, 3) are the same points in the source."""
    triangles = topology.triangles
    fragments = rasterize(driven, triangles, size, size)
    inside = (fragments.triangle >= 0)[:, None].to(driven.dtype)
    seen = fragments.triangle.clamp(min=0).flatten(1)

    was, now = _signed_areas(source, triangles), _signed_areas(driven, triangles)
    normals = _normals(driven, triangles)
    stretch = torch.log2((now.abs() + 1e-6) / (was.abs() + 1e-6)).clamp(-3, 3) / 3
    facing = _normals(source, triangles)[..., 2:]
    per_face = torch.cat((topology.one_hot.expand(len(driven), -1, -1), normals, stretch[..., None], facing), dim=2)
    of_faces = F.embedding(seen + rows_of(len(driven), len(triangles), seen), per_face.flatten(0, 1))
    of_faces = of_faces.view(len(driven), size, size, -1).permute(0, 3, 1, 2)
    kinds, flat = of_faces[:, : len(KINDS)], of_faces[:, len(KINDS) :]

    values = torch.cat((source[..., :2], topology.mean.expand(len(source), -1, -1)), dim=2)
    smooth = fragments.interpolate(values, triangles)
    flow, place = smooth.split((2, 3), dim=1)
    eyes = kinds[:, KINDS.index("eye")][:, None] * inside
    flow, iris = _with_irises(flow, eyes, source, driven)
    flow, dark = hang_teeth(flow, fragments, source, driven, topology)
    features = torch.cat((kinds, iris, place, flat), dim=1) * inside
    return Drawing(flow, inside, features, dark)


def _with_irises(flow: Tensor, eyes: Tensor, source: Tensor, driven: Tensor) -> tuple[Tensor, Tensor]:
    """Let the eyeball follow its iris, not the lids, and return where the irises are (B, 1, h, w)."""
    grid = grid_of(flow.shape[2], flow.shape[3], flow)
    shown = torch.zeros_like(eyes)
    for points in IRISES:
        was, now = source[:, points, :2], driven[:, points, :2]
        radius = _radius(now)
        offset = grid - now[:, 0, :, None, None]
        far = _length(offset)[:, None] / radius
        moved = was[:, 0, :, None, None] + offset * (_radius(was) / radius)
        weight = ((_IRIS_REACH - far) * 2).clamp(0, 1) * eyes
        flow = flow + weight * (moved - flow)
        shown = shown + (1.2 - far).mul(5).clamp(0, 1) * eyes
    return flow, shown


def _length(vectors: Tensor) -> Tensor:
    """Return the lengths (B, h, w) of vectors (B, 2, h, w); `norm` along a dimension that is not the last is slow."""
    x, y = vectors.unbind(dim=1)
    return torch.addcmul(x * x, y, y).sqrt()


def _radius(iris: Tensor) -> Tensor:
    """Return the mean radius (B, 1, 1, 1) of an iris (B, 5, 2), whose first point is its middle."""
    return (iris[:, 1:] - iris[:, :1]).norm(dim=2).mean(dim=1).clamp(min=1e-3)[:, None, None, None]


def _signed_areas(points: Tensor, triangles: Tensor) -> Tensor:
    a, b, c = points[:, triangles, :2].unbind(dim=2)
    one, two = b - a, c - a
    return (one[..., 0] * two[..., 1] - one[..., 1] * two[..., 0]) / 2


def _normals(points: Tensor, triangles: Tensor) -> Tensor:
    """Return unit normals (B, F, 3) of the triangles; z is -1 where one faces the camera."""
    a, b, c = points[:, triangles].unbind(dim=2)
    normal = torch.linalg.cross(c - a, b - a)
    return normal / normal.norm(dim=2, keepdim=True).clamp(min=1e-9) * normal.new_tensor([1, 1, -1])


def candidates(
    drawing: Drawing, source: Pose, driven: Pose, topology: Topology, scene: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return candidate flows (B, LAYERS, 2, h, w) and their prior logits (B, LAYERS, h, w).

    In order: the background, which stands still unless `scene` moves it; the mesh, and around it a plane through the
    face's outline that moves with the head; a plane further back; a neck that follows the head half way, or, with
    `scene`, joins the head to the shoulders.

    Args:
        drawing: of the driven face.
        source: poses (B) of the head in the source.
        driven: poses (B) of the driven head.
        topology: of the face.
        scene: (B, 4), how far background and shoulders have moved, x and y of both.
    """
    height, width = drawing.flow.shape[2:]
    grid = grid_of(height, width, drawing.flow)
    edge = topology.mean[OVAL]
    still = grid.expand(len(drawing.flow), -1, -1, -1)
    plane = _plane_flow(grid, source, driven, float(edge[:, 2].mean()))
    back = _plane_flow(grid, source, driven, float(edge[:, 2].mean()) + 0.7)
    face = plane + drawing.inside * (drawing.flow - plane)
    far, below = head_distance(grid, driven, topology)
    if scene is None:
        ground, neck = still, (still + plane) / 2
    else:
        ground, body = (still - part[:, :, None, None] for part in scene.split(2, dim=1))
        neck = plane + (below / _NECK_LENGTH).clamp(0, 1)[:, None] * (body - plane)
    flows = torch.stack((ground, face, back, neck), dim=1)
    zero = torch.zeros_like(far)
    uncovered = zero if scene is None else _uncovered(grid, ground, far, below, source, topology)
    prior = torch.stack(
        (-_HIDDEN * uncovered, 5 * (1.5 - far) + 4 * drawing.inside[:, 0], zero - 2, 2 * below - 1), dim=1
    )
    return flows, prior


def _uncovered(grid: Tensor, ground: Tensor, far: Tensor, below: Tensor, source: Pose, topology: Topology) -> Tensor:
    """Return where the background would show the head as it was in the source, but is no more, (B, h, w) in [0, 1].

    `far` and `below` are those of the driven head (`head_distance`).
    """
    was, _ = head_distance(grid, source, topology)
    was = F.grid_sample(was[:, None], ground.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)[:, 0]
    left = ((far - was - 0.15) * 4).clamp(0, 1)
    return left * ((_HAIR - was) * 3).clamp(0, 1) * ((0.3 - below) * 4).clamp(0, 1)


def head_distance(grid: Tensor, pose: Pose, topology: Topology) -> tuple[Tensor, Tensor]:
    """Return how far from the middle of the face places (2, h, w) lie, and how far below its chin, both (B, h, w).

    Both are measured in the plane of the face's outline, in the posed head's own frame; the first is 1 on the outline.
    """
    edge = topology.mean[OVAL]
    affine, offset = _into_head(pose, float(edge[:, 2].mean()))
    head = torch.einsum("bij,jhw->bihw", affine, grid) + offset[:, :, None, None]
    middle, reach = (edge.amax(0) + edge.amin(0))[:2] / 2, (edge.amax(0) - edge.amin(0))[:2] / 2
    far = _length((head - middle[:, None, None]) / reach[:, None, None])
    return far, (head[:, 1] - edge[:, 1].max()).clamp(-1, 1)


def cover(moved: Tensor, source: Pose, driven: Pose, topology: Topology) -> Tensor:
    """Return how far places are replaced when frames are put back into a picture, (B, 1, h, w) in [0, 1].

    They are where the head is and where it was, and around it whatever moves: hair, neck, and what comes into view.

    Args:
        moved: (B, 2, h, w), from each place to the one that it shows.
        source: poses (B) in the source.
        driven: poses (B) in the frames.
        topology: of the face.
    """
    height, width = moved.shape[2:]
    grid = grid_of(height, width, moved)
    heads = [head_distance(grid, pose, topology)[0] for pose in (source, driven)]
    head = ((_HEAD_ENDS - torch.minimum(*heads)) * 2).clamp(0, 1)
    pixels = _length(moved) * (width / 2)
    movement = ((_smooth(pixels) - _STILL) * 2).clamp(0, 1)
    return _smooth(torch.maximum(head, movement))[:, None]


def _smooth(x: Tensor) -> Tensor:
    """Average (B, h, w) over neighbouring places."""
    return F.avg_pool2d(x[:, None], 5, stride=1, padding=2, count_include_pad=False)[:, 0]


def _into_head(pose: Pose, depth: float) -> tuple[Tensor, Tensor]:
    """Return the affine map (B, 2, 2), (B, 2) from the picture to the plane z = `depth` of the head's own frame."""
    turn = pose.rotation[:, :2, :2]
    a, b, c, d = turn[:, 0, 0], turn[:, 0, 1], turn[:, 1, 0], turn[:, 1, 1]
    # A head in profile shows the plane edge on: from there on it is kept as wide as at 70 degrees.
    determinant = (a * d - b * c).clamp(min=0.34)
    inverse = torch.stack((d, -b, -c, a), dim=1).view(-1, 2, 2) / (determinant * pose.scale)[:, None, None]
    shift = pose.shift[:, :2] + pose.scale[:, None] * pose.rotation[:, :2, 2] * depth
    return inverse, -(inverse @ shift[:, :, None])[:, :, 0]


def _plane_flow(grid: Tensor, source: Pose, driven: Pose, depth: float) -> Tensor:
    affine, offset = _into_head(driven, depth)
    turn = source.scale[:, None, None] * source.rotation[:, :2, :2]
    shift = source.shift[:, :2] + source.scale[:, None] * source.rotation[:, :2, 2] * depth
    offset = (turn @ offset[:, :, None])[:, :, 0] + shift
    return torch.einsum("bij,jhw->bihw", turn @ affine, grid) + offset[:, :, None, None]
