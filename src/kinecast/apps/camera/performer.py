"""A portrait moved by frames of a camera, each by itself, as it comes."""

from collections.abc import Iterator, Sequence

import numpy as np

from kinecast.apps.camera.avatars import Avatar
from kinecast.media.pictures import to_tensor
from kinecast.models.base import Backbone
from kinecast.models.transfer import Transfer
from kinecast.motion import Motion


class Performer:
    """Moves one of several avatars; changes of motion count from a neutral pose, which is the first that is seen.

    A frame without a face holds what is shown.

    Args:
        backbone: what animates; one that looks for a face itself.
        avatars: of `load_avatars`, at least one.
        transfer: how motion is applied.
        smooth: frames per second, for a filter of what trembles.

    Attributes:
        current: the index of the avatar that is shown.
        seen: whether the last frame showed a face.
        calibrated: whether there is a neutral pose.

    Raises:
        KinecastError: the backbone has not what `transfer` asks for.
    """

    def __init__(
        self,
        backbone: Backbone,
        avatars: Sequence[Avatar],
        transfer: Transfer | None = None,
        smooth: float | None = None,
    ) -> None:
        self.avatars, self.transfer = avatars, transfer or Transfer()
        backbone.check_transfer(self.transfer)
        self.current, self.seen = 0, False
        self._backbone, self._follow = backbone, backbone.follow(smooth)
        self._neutral: Motion | None = None
        self._motion: Motion | None = None
        self._frames: Iterator[np.ndarray] | None = None
        self._shown = avatars[0].stage.picture

    @property
    def calibrated(self) -> bool:
        """Whether there is a neutral pose."""
        return self._neutral is not None

    def calibrate(self) -> None:
        """Let the next pose that is seen be the neutral one."""
        self._neutral = self._frames = None

    def choose(self, index: int) -> None:
        """Show another avatar, in the pose of the one before."""
        if index == self.current:
            return
        self.current, self._frames = index, None
        if self._neutral is None:
            self._shown = self.avatars[index].stage.picture

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Return the avatar (H, W, 3), uint8, as the next frame (h, w, 3) of the camera moves it."""
        motion = self._follow(to_tensor(frame).to(self._backbone.device)).to("cpu")
        self.seen = bool(motion.valid_frames().all())
        if self.seen:
            self._motion = motion
            self._neutral = motion if self._neutral is None else self._neutral
        elif self._frames is not None or self._neutral is None:
            return self._shown
        if self._frames is None:
            stage = self.avatars[self.current].stage
            self._frames = stage.frames(self._motions(), self._neutral, self.transfer)
        self._shown = next(self._frames)
        return self._shown

    def _motions(self) -> Iterator[Motion]:
        while self._motion is not None:
            yield self._motion
