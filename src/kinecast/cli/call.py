"""`kinecast call`: a live call, with a page for a person or headless for servers and tests."""

import asyncio
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinecast.cli.common import (
    CropOption,
    EngineOption,
    FaceOption,
    JsonOption,
    PrecisionOption,
    SeedOption,
    print_json,
    say,
)
from kinecast.cli.model_choice import AUTO, AutoModelOption, choose_for_call
from kinecast.cli.outputs import WRITES_CLIP, WRITES_TABLE
from kinecast.errors import KinecastError

if TYPE_CHECKING:
    from kinecast.apps.call.config import CallConfig, IceServer

_PAGE, _HEADLESS = "The page", "Headless"


def call(
    invitation: Annotated[
        str | None,
        typer.Argument(help="Invitation from the other person. (default: you invite, or decide on the page)"),
    ] = None,
    server: Annotated[
        str | None, typer.Option("--server", help="Room server (`kinecast serve`) to invite from, http(s)://HOST:PORT.")
    ] = None,
    avatar: Annotated[
        str | None,
        typer.Option(
            "--avatar",
            metavar="FILE|head",
            help="Picture shown to the other side in place of you, moved by your motion; `head` for a 3-D head.",
        ),
    ] = None,
    head: Annotated[
        Path | None,
        typer.Option(
            "--head", help="3-D head (.glb) to draw if the other side shows itself as one. (default: kinecast's)"
        ),
    ] = None,
    input: Annotated[Path | None, typer.Option("--input", help="Clip to use as the camera.")] = None,
    fps: Annotated[float, typer.Option("--fps", help="Maximum frames per second sent.")] = 25.0,
    kbps: Annotated[
        float | None,
        typer.Option(
            "--kbps", help="Send at most this, IP headers included. (default: no limit but what the line bears)"
        ),
    ] = None,
    quality: Annotated[float, typer.Option("--quality", help="Motion quality, 1 to 9, as in `kinecast encode`.")] = 5,
    forecast: Annotated[
        str, typer.Option("--forecast", help="Concealment of missing frames: auto, hold, damped, or a forecaster.")
    ] = "auto",
    jitter_ms: Annotated[
        float, typer.Option("--jitter-ms", help="Maximum delay added by the jitter buffer, in milliseconds.")
    ] = 60.0,
    stun: Annotated[
        list[str] | None, typer.Option("--stun", help="STUN server HOST:PORT, to connect across networks.")
    ] = None,
    turn: Annotated[
        str | None, typer.Option("--turn", help="TURN relay HOST:PORT, for when no direct connection is possible.")
    ] = None,
    turn_user: Annotated[str, typer.Option("--turn-user", help="User name for the TURN relay.")] = "",
    turn_password: Annotated[
        str, typer.Option("--turn-password", envvar="KINECAST_TURN_PASSWORD", help="Password for the TURN relay.")
    ] = "",
    record: Annotated[
        Path | None, WRITES_CLIP, typer.Option("--record", help="Record what you see to this file.")
    ] = None,
    blendshapes: Annotated[
        Path | None,
        WRITES_TABLE,
        typer.Option("--blendshapes", help="CSV of ARKit's 52 blendshapes and the head's pose per frame that you see."),
    ] = None,
    model: AutoModelOption = AUTO,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "bf16",
    crop: CropOption = "center",
    face: FaceOption = None,
    seed: SeedOption = 0,
    port: Annotated[
        int, typer.Option("--port", help="Port of the page on 127.0.0.1; 0 for any free one.", rich_help_panel=_PAGE)
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.", rich_help_panel=_PAGE)
    ] = True,
    headless: Annotated[
        bool,
        typer.Option("--headless", help="Run without a page, with --input as the camera.", rich_help_panel=_HEADLESS),
    ] = False,
    output: Annotated[
        Path | None,
        WRITES_CLIP,
        typer.Option("--output", help="Record the received video to this file.", rich_help_panel=_HEADLESS),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            help="Hang up this long after connecting. (default: length of the clip)",
            rich_help_panel=_HEADLESS,
        ),
    ] = None,
    repeat: Annotated[bool, typer.Option("--repeat", help="Loop the clip.", rich_help_panel=_HEADLESS)] = False,
    json: JsonOption = False,
) -> None:
    """Make a video call over a few kilobits per second.

    Opens a page on this machine: camera, invitation, the other person's picture, and the call's bit rate and delay.
    --json prints the figures of a headless call.
    """
    _check(invitation, server, headless, input, output, seconds, repeat, json)
    from kinecast.apps.call.config import CallConfig
    from kinecast.apps.call.peer import needs_live
    from kinecast.files import existing_file
    from kinecast.media.framing import around_face

    needs_live()
    shown = None if avatar is None or avatar == "head" else Path(avatar)
    if shown is not None and shown.suffix.lower() in (".glb", ".gltf"):
        raise KinecastError(
            f"{shown}: expected a picture, or the word head, found a 3-D file: --avatar head makes you one, and each "
            "side draws the head that it chose by --head"
        )
    for path, what in ((shown, "picture"), (input, "clip"), (head, "3-D head")):
        if path is not None:
            existing_file(path, what)
    if head is not None:
        from kinecast.apps.heads.glb import read_head

        read_head(head)  # before anybody is called
    crop = around_face(crop, face)
    config = CallConfig(
        model=choose_for_call(model, input, shown, crop, forecast),
        engine=engine,
        precision=precision,
        fps=fps,
        kbps=kbps,
        quality=quality,
        forecaster=forecast,
        avatar="head" if avatar == "head" else shown,
        head=head,
        crop=crop,
        jitter_ms=jitter_ms,
        ice_servers=_ice_servers(stun or [], turn, turn_user, turn_password),
        record=record,
        blendshapes=blendshapes,
        seed=seed,
    )
    if headless:
        assert input is not None  # _check
        _call_headless(config, input, output, server, invitation, seconds, repeat, json)
    else:
        _call_with_page(config, server or "", invitation or "", input, port, browser)


def _check(
    invitation: str | None,
    server: str | None,
    headless: bool,
    input: Path | None,
    output: Path | None,
    seconds: float | None,
    repeat: bool,
    json: bool,
) -> None:
    if invitation and server:
        raise KinecastError("call: expected an invitation or a --server, found both: an invitation names its server")
    if headless and input is None:
        raise KinecastError("call: expected --input with --headless, found none: name a clip to use as the camera")
    only_headless = {"--output": output, "--seconds": seconds, "--repeat": repeat, "--json": json}
    for name, value in only_headless.items():
        if value and not headless:
            raise KinecastError(f"call: expected --headless with {name}, found none: use --record, or add --headless")


def _ice_servers(stun: list[str], turn: str | None, user: str, password: str) -> "tuple[IceServer, ...]":
    from kinecast.apps.call.config import IceServer

    servers = [IceServer(_with_scheme(address, "stun")) for address in stun]
    if turn:
        servers.append(IceServer(_with_scheme(turn, "turn"), user, password))
    elif user or password:
        raise KinecastError("call: expected --turn with a TURN user or password, found none: name the server")
    return tuple(servers)


def _with_scheme(address: str, scheme: str) -> str:
    return address if address.startswith((f"{scheme}:", f"{scheme}s:")) else f"{scheme}:{address}"


def _call_headless(
    config: "CallConfig",
    input: Path,
    output: Path | None,
    server: str | None,
    invitation: str | None,
    seconds: float | None,
    repeat: bool,
    json: bool,
) -> None:
    from kinecast.apps.call.headless import HeadlessOptions, run_headless

    options = HeadlessOptions(input, output, server, invitation, seconds, repeat)
    figures = run_headless(options, config, say)
    if json:
        print_json(figures)


def _call_with_page(
    config: "CallConfig", server: str, invitation: str, clip: Path | None, port: int, browser: bool
) -> None:
    from kinecast.apps.call.page import PageServer, run_page
    from kinecast.apps.call.page_call import Choices

    def opened(address: str) -> None:
        say(f"call page (this machine only): {address}\nCtrl-C ends it")
        if browser and not webbrowser.open(address):
            say("no browser could be opened: open the address by hand")

    choices = Choices(server, invitation, clip.name if clip else "")
    asyncio.run(run_page(PageServer(config, choices, clip), port, opened))
