"""Two pages, two real sessions and a room server: what one camera sees, the other page is given to show."""

import asyncio
import struct
import time

import aiohttp
import numpy as np

from apps.call.page_server import Client, event, picture, run
from helpers import draw_frames
from kinecast.apps.call.config import CallConfig
from kinecast.apps.call.page import PageServer
from kinecast.apps.call.rooms import Server
from kinecast.models.checkpoints import save_backbone
from tiny import tiny_fomm


def test_a_call_between_two_pages(tmp_path):
    save_backbone(tiny_fomm(frame_size=(32, 32), num_keypoints=3), tmp_path / "tiny.safetensors", {})
    config = CallConfig(model=str(tmp_path / "tiny.safetensors"), engine="eager", fps=20)
    frames = draw_frames(12, (64, 64))

    async def film(socket):
        for number in range(10_000):
            rgba = np.dstack([frames[number % 12], np.full((64, 64), 255, np.uint8)])
            await socket.send_bytes(struct.pack("<BIdHH", 1, number, time.time() * 1000, 64, 64) + rgba.tobytes())
            await asyncio.sleep(0.05)

    async def test():
        servers = [PageServer(config) for _ in range(2)]
        async with Server("127.0.0.1", 0) as rooms, aiohttp.ClientSession() as http:
            films = []
            try:
                for server in servers:
                    await server.start()
                pages = [await Client(server, http).page() for server in servers]
                films = [asyncio.ensure_future(film(page)) for page in pages]
                await pages[0].send_json({"type": "host", "server": rooms.address})
                await pages[1].send_json({"type": "join", "invitation": (await event(pages[0], "hand-over"))["text"]})
                for page in pages:
                    shown = [await picture(page, 15) for _ in range(2)]
                    assert all(len(data) == 18 + 32 * 32 * 4 for data in shown)
                    await page.send_bytes(struct.pack("<BI", 3, 2))
                    assert (await event(page, "stats"))["bytes_received"]["motion"] > 0
                await pages[1].send_json({"type": "hang-up"})
                states = [""]
                while states[-1] != "ready":
                    states.append((await event(pages[0], "state", 15))["state"])
                assert states[-2] == "ended"
                await pages[1].send_json({"type": "join", "invitation": "nonsense"})  # the next call may begin
                assert "expected" in (await event(pages[1], "error"))["line"]
            finally:
                for task in films:
                    task.cancel()
                for server in servers:
                    await server.stop()

    run(test(), 60)
