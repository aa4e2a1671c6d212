"""What relative motion measures of a set of points."""

from torch import Tensor

from kinecast.errors import KinecastError


def hull_area(points: Tensor) -> float:
    """Return the area of the convex hull of points (1, N, 2).

    Raises:
        KinecastError: they span no area.
    """
    from scipy.spatial import ConvexHull, QhullError  # scipy comes with scikit-image

    try:
        return float(ConvexHull(points[0].cpu().numpy()).volume)
    except QhullError as error:
        raise KinecastError(
            "adapt scale: expected 3 or more keypoints that span an area, found fewer or all on one line: leave it out"
        ) from error
