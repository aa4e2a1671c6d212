"""The virtual camera through pyvirtualcam, whose device alone is a stand-in; the camera by libav's test source."""

import sys

import numpy as np
import pytest

from kinecast import KinecastError
from kinecast.media import camera
from kinecast.media.camera import camera_frames
from kinecast.media.virtual_camera import VirtualCamera

pyvirtualcam = pytest.importorskip("pyvirtualcam")


class Device:
    """A backend as pyvirtualcam wants it."""

    made: "list[Device]" = []
    broken = False

    def __init__(self, **given):
        if given["device"] == "/dev/video99":
            raise RuntimeError("Device '/dev/video99'\n does not exist")
        self.given, self.frames, self.closed = given, [], 0
        Device.made.append(self)

    def device(self):
        return self.given["device"] or "/dev/video10"

    def native_fourcc(self):
        return None

    def send(self, frame):
        if Device.broken:
            raise RuntimeError("error writing frame: No such device")
        self.frames.append(frame.copy())

    def close(self):
        self.closed += 1


@pytest.fixture
def device(monkeypatch):
    monkeypatch.setattr(sys.modules["pyvirtualcam.camera"], "BACKENDS", {"stand-in": Device})
    monkeypatch.setattr(Device, "made", [])
    monkeypatch.setattr(Device, "broken", False)
    return Device


def test_frames_reach_the_device_as_they_are(device):
    opened = VirtualCamera((64, 48), 30)
    (made,) = device.made
    assert opened.name == "/dev/video10" and opened.size == (64, 48) and opened.fps == 30
    assert (made.given["width"], made.given["height"], made.given["fps"]) == (64, 48, 30)
    frame = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    opened.send(frame)
    np.testing.assert_array_equal(made.frames[0], frame.reshape(-1))
    opened.close()
    opened.close()
    assert made.closed == 1


def test_a_device_that_is_missing_or_goes_is_one_line(device):
    with pytest.raises(KinecastError, match="expected /dev/video99, found none that can be used .*not exist"):
        VirtualCamera((64, 48), 30, "/dev/video99")
    opened = VirtualCamera((64, 48), 30)
    device.broken = True
    with pytest.raises(
        KinecastError, match="expected /dev/video10, found it gone .*No such device.*: start again"
    ) as e:
        opened.send(np.zeros((48, 64, 3), np.uint8))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(("platform", "advice"), [("linux", "v4l2loopback"), ("darwin", "OBS"), ("win32", "OBS")])
def test_a_missing_driver_says_what_to_install(monkeypatch, platform, advice):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(sys.modules["pyvirtualcam.camera"], "BACKENDS", {"stand-in": lambda **given: 1 / 0})
    with pytest.raises(KinecastError, match=f"virtual camera: expected a device, found none .*: install {advice}"):
        VirtualCamera((64, 48), 30)


def test_a_cameras_frames_whole_and_reduced(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(camera, "_DEVICES", {"linux": ("lavfi", "testsrc2=size=320x200:rate=25:duration=0.2")})
    frames = []
    gone = "camera 3: expected frames of testsrc2.*, found the end of its frames: plug it in, and start again"
    with pytest.raises(KinecastError, match=gone):
        for frame in camera_frames(3, None, longest=160):
            frames.append(frame)
    assert [frame.shape for frame in frames] == [(100, 160, 3)] * 5
    assert next(camera_frames(3, None)).shape == (200, 320, 3)
    assert next(camera_frames(3, (64, 64))).shape == (64, 64, 3)


def test_a_camera_that_is_not_there(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(KinecastError, match="camera 77: expected /dev/video77, found none there: plug it in"):
        next(camera_frames(77, None))
    monkeypatch.setattr(camera, "_DEVICES", {"linux": ("lavfi", "nosuchsource")})
    with pytest.raises(KinecastError, match="camera 7: expected to open nosuchsource, found"):
        next(camera_frames(7, None))
