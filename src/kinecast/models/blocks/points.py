"""Size of a set of points, for relative motion."""

from torch import Tensor

from kinecast.errors import KinecastError

_LEAST_AREA = 1e-6  # of the frame's area 4: an eighth of a pixel per side at 256 pixels
_MOST_RATIO = 10.0  # of two sizes; larger ratios mean different kinds of subject


def hull_area(points: Tensor) -> float:
    """Return the area of the convex hull of points (1, N, 2).

    Raises:
        KinecastError: they span no area.
    """
    from scipy.spatial import ConvexHull, QhullError  # scipy comes with scikit-image

    try:
        area = float(ConvexHull(points[0].cpu().numpy()).volume)
    except (QhullError, ValueError) as error:  # the latter: not finite
        raise _no_area() from error
    if area < _LEAST_AREA:
        raise _no_area()
    return area


def size_ratio(source: Tensor, initial: Tensor) -> float:
    """Return the size of the source's points (1, N, 2) relative to the initial ones: the root of the hulls' area ratio.

    Raises:
        KinecastError: one of them spans no area, or they differ by more than a factor of 10.
    """
    ratio = (hull_area(source) / hull_area(initial)) ** 0.5
    if not 1 / _MOST_RATIO <= ratio <= _MOST_RATIO:
        raise KinecastError(
            f"adapt scale: expected keypoints whose sizes differ by a factor of at most {_MOST_RATIO:g}, "
            f"found {ratio:.3g}: drop --adapt-scale"
        )
    return ratio


def comparable(source: Tensor, initial: Tensor) -> bool:
    """Return whether `size_ratio` is defined."""
    try:
        size_ratio(source, initial)
    except KinecastError:
        return False
    return True


def _no_area() -> KinecastError:
    return KinecastError(
        "adapt scale: expected 3 or more keypoints that span an area, found fewer or all on one line: drop "
        "--adapt-scale"
    )
