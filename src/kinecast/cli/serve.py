"""`kinecast serve`: the room server, which introduces the two ends of a call."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from kinecast.cli.common import say
from kinecast.errors import KinecastError

_LOCAL = ("127.0.0.1", "::1", "localhost")


def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 for a free one.")] = 8710,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", help="Certificate (PEM), to serve https.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Its private key (PEM).")] = None,
) -> None:
    """Run the room server that introduces the two ends of a call. The call itself does not pass through it.

    It learns addresses and when they met, but not the content: offers are encrypted with a key that only the two ends
    hold.
    """
    if (tls_cert is None) != (tls_key is None):
        raise KinecastError("TLS: expected --tls-cert and --tls-key together, found one of them: name both")
    certificate = (str(tls_cert), str(tls_key)) if tls_cert is not None else None
    asyncio.run(_serve(host, port, certificate))


async def _serve(host: str, port: int, certificate: tuple[str, str] | None) -> None:
    from kinecast.apps.call.rooms import Server
    from kinecast.apps.call.signals import on_stop

    stopped = asyncio.Event()
    with on_stop(stopped.set):
        async with Server(host, port, certificate=certificate) as server:
            say(f"listening on {server.address}; `kinecast call --server {server.address}` creates an invitation")
            if certificate is None and host not in _LOCAL:
                say("without TLS an eavesdropper sees who meets whom, not the content: use --tls-cert and --tls-key")
            await stopped.wait()
    say("stopped")
