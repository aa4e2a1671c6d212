"""`kinecast camera`: a portrait in place of you, in any meeting program."""

import asyncio
import webbrowser
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinecast.cli.common import (
    DeviceOption,
    EngineOption,
    JsonOption,
    PrecisionOption,
    load_model,
    print_json,
    say,
)
from kinecast.cli.transfer_options import EyesOption, LipsOption, RegionOption, StrengthOption, transfer_of
from kinecast.errors import KinecastError

if TYPE_CHECKING:
    from kinecast.apps.camera.feed import Newest
    from kinecast.apps.camera.performer import Performer
    from kinecast.media.virtual_camera import FrameSink

NONE = "none"  # no virtual camera
_SIDES = (128, 1920)  # pixels of the frames' sides
_CAMERA_LONGEST = 640  # pixels of the camera's frames, in which a face is looked for


def camera(
    source: Annotated[list[Path], typer.Option("--source", help="Portrait; several get the keys 1 to 9.")],
    number: Annotated[int, typer.Option("--camera", min=0, help="Number of the camera.")] = 0,
    input: Annotated[Path | None, typer.Option("--input", help="Clip to use as the camera.")] = None,
    repeat: Annotated[bool, typer.Option("--repeat", help="Loop the clip.")] = False,
    virtual_camera: Annotated[
        str | None,
        typer.Option(
            "--virtual-camera",
            help="Virtual camera, /dev/video10 for instance; none shows only the page. (default: the first free one)",
        ),
    ] = None,
    resolution: Annotated[
        str, typer.Option("--resolution", help="Width and height of the virtual camera's frames.")
    ] = "1280x720",
    fps: Annotated[float, typer.Option("--fps", help="Frames per second of both cameras.")] = 30.0,
    strength: StrengthOption = None,
    region: RegionOption = "all",
    eyes: EyesOption = None,
    lips: LipsOption = None,
    smooth: Annotated[bool, typer.Option("--smooth", help="Smooth jitter in the landmarks (One Euro filter).")] = False,
    seconds: Annotated[float | None, typer.Option("--seconds", help="Stop after this many seconds.")] = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Serve the page with preview and buttons.")] = True,
    port: Annotated[int, typer.Option("--port", help="Port of the page on 127.0.0.1; 0 for any free one.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    model: Annotated[
        str, typer.Option("--model", help="Mesh backbone: a name of `kinecast zoo list`, or a file.")
    ] = "mesh",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "bf16",
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Show a portrait, moved by your camera, as a virtual camera that meeting programs can choose.

    Keys, in the terminal and on the page: 1 to 9 choose the portrait, c takes your current pose as neutral, q
    quits. Nothing leaves the machine.
    """
    from kinecast.files import existing_file
    from kinecast.media.video import probe
    from kinecast.packages import needs

    _, _, transfer = transfer_of(None, None, strength, region, eyes, lips)
    size = _resolution(resolution)
    _check(input, repeat, fps, seconds)
    for path in (*source, *([input] if input else [])):
        existing_file(path, "clip" if path is input else "picture")
    if input is not None:
        probe(input)  # what is wrong with it is said before the model is loaded
    needs("the camera", "camera")
    sinks = _sinks(virtual_camera, size, fps, None if input else number)
    try:
        performer = _performer(load_model(model, device, engine, precision), source, size, transfer, smooth and fps)
        say(", ".join(f"{i}: {avatar.name}" for i, avatar in enumerate(performer.avatars, 1)))
        opening = port if page else None
        figures = asyncio.run(_run(performer, sinks, _Feed(number, input, repeat, fps), opening, browser, seconds))
    finally:
        for sink in sinks:
            sink.close()
    if json:
        print_json(figures)
    late = figures["latency_ms"]
    say(
        f"{figures['sent']} of {figures['arrived']} frames in {figures['seconds']:.1f} s, {figures['fps']:.1f} per "
        f"second; {late['mean']:.0f} ms after they came, 95 % within {late['p95']} ms"
    )


def _resolution(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    sides = [int(side) for side in (width, height) if side.isdecimal()]
    if len(sides) != 2 or not all(_SIDES[0] <= side <= _SIDES[1] and side % 2 == 0 for side in sides):
        raise KinecastError(
            f"resolution: expected width and height, even and from {_SIDES[0]} to {_SIDES[1]}, such as 1280x720, found "
            f"{text!r}"
        )
    return sides[0], sides[1]


def _check(input: Path | None, repeat: bool, fps: float, seconds: float | None) -> None:
    if repeat and input is None:
        raise KinecastError("repeat: expected a clip as --input, found none: a camera has no end")
    for name, value, most in (("fps", fps, 240), ("seconds", seconds, 1e9)):
        if value is not None and not 0 < value <= most:
            raise KinecastError(f"{name}: expected a number above 0, up to {most:g}, found {value:g}")


def _sinks(wanted: str | None, size: tuple[int, int], fps: float, number: int | None) -> "list[FrameSink]":
    """Open the virtual camera before all else: without one there is nothing to do."""
    from kinecast.media.camera import camera_device
    from kinecast.media.virtual_camera import VirtualCamera

    read = None if number is None else camera_device(number)
    if wanted == NONE:
        return []
    if read is not None and wanted == read:
        raise KinecastError(f"virtual camera: expected another device than the camera, found {read}: name one of both")
    opened = VirtualCamera(size, fps, wanted)
    if opened.name == read:
        opened.close()
        raise KinecastError(
            f"camera {number}: expected another device than the virtual camera, found {read}: --camera N"
        )
    say(f"virtual camera: choose {opened.name} in the meeting program")
    return [opened]


def _performer(model: Any, source: list[Path], size: tuple[int, int], transfer: Any, smooth: float) -> "Performer":
    from kinecast.apps.camera.avatars import load_avatars
    from kinecast.apps.camera.performer import Performer

    if not (model.any_size and model.needs_face):
        raise KinecastError(f"camera: expected a mesh backbone, found {model.name}: use the model mesh")
    model.warm_up()
    return Performer(model, load_avatars(model, source, size), transfer, smooth or None)


class _Feed:
    """What brings the camera's frames, or a clip's."""

    def __init__(self, number: int, clip: Path | None, repeat: bool, fps: float) -> None:
        self._number, self._clip, self._repeat, self._fps = number, clip, repeat, fps

    def __call__(self, newest: "Newest") -> Awaitable[object]:
        from kinecast.apps.camera.feed import read_camera, read_clip
        from kinecast.media.camera import camera_frames

        if self._clip is not None:
            return read_clip(self._clip, newest, self._repeat)
        return read_camera(camera_frames(self._number, None, self._fps, _CAMERA_LONGEST), newest)


async def _run(
    performer: "Performer",
    sinks: "list[FrameSink]",
    feed: _Feed,
    port: int | None,
    browser: bool,
    seconds: float | None,
) -> dict[str, Any]:
    """Show until the end, steered by keys and by the page, if it has a port; returns the figures."""
    from kinecast.apps.call.signals import on_stop
    from kinecast.apps.camera.keys import terminal_keys
    from kinecast.apps.camera.show import Show

    show, page = Show(performer, *sinks), None

    def press(key: str) -> None:
        if key.isdecimal():
            show.choose(int(key) - 1)
        elif key.lower() == "c":
            show.calibrate()
        elif key.lower() == "q":
            show.end()

    try:
        if port is not None:
            from kinecast.apps.camera.page import CameraPage

            page = CameraPage(show)
            address = await page.start(port)
            say(f"the camera's page, for this machine only: {address}")
            if browser and not webbrowser.open(address):
                say("no browser could be opened: open the address yourself")
        with on_stop(show.end), terminal_keys(press) as has_keys:
            say("keys: 1 to 9 choose the portrait, c the neutral pose, q ends" if has_keys else "Ctrl-C ends it")
            if seconds is not None:
                asyncio.get_running_loop().call_later(seconds, show.end)
            return await show.run(feed)
    finally:
        if page is not None:
            await page.stop()
