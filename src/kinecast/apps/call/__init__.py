"""A live call: what is seen goes over WebRTC data channels as a picture now and then and a few kilobits of motion.

`CallSession` (session.py) is one end of a call: it captures nothing and draws nothing, it takes camera frames and gives
frames to show. `kinecast serve` (rooms.py) brings two of them together; the call itself goes from one to the other.
Needs the extra `live` (aiortc, aiohttp).
"""

LOADING = "kinecast-load"  # the thread that loads the models of a page's call, which may end before it
