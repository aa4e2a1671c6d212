"""`kinecast studio`: a page that animates a portrait by sliders, a clip or a camera."""

import asyncio
import webbrowser
from typing import Annotated

import typer

from kinecast.cli.common import DeviceOption, EngineOption, PrecisionOption, load_model, say


def studio(
    port: Annotated[int, typer.Option("--port", help="Port of the page on 127.0.0.1; 0 for any free one.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    upload_mb: Annotated[
        int, typer.Option("--upload-mb", min=1, help="Largest accepted picture or clip, in megabytes.")
    ] = 500,
    model: Annotated[
        str, typer.Option("--model", help="Mesh backbone: a name of `kinecast zoo list`, or a file.")
    ] = "mesh",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "exact",
    device: DeviceOption = "auto",
) -> None:
    """Animate a portrait in your browser by sliders, a clip or your camera.

    The page is served from this machine and loads nothing from elsewhere. Your files are copied to a temporary folder,
    which is removed when the studio ends. Videos are saved as mp4, webm or gif, single pictures as png.
    """
    from kinecast.packages import needs

    needs("the studio", "live")
    from kinecast.apps.studio.server import StudioServer, run_studio

    def opened(address: str) -> None:
        say(f"studio page (this machine only): {address}\nCtrl-C ends it")
        if browser and not webbrowser.open(address):
            say("no browser could be opened: open the address by hand")

    server = StudioServer(lambda: load_model(model, device, engine, precision), upload_mb * 1_000_000)
    asyncio.run(run_studio(server, port, opened))
