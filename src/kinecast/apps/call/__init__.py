"""Live calls: video over WebRTC data channels, as an occasional picture and a few kilobits per second of motion.

`CallSession` (session.py) is one end of a call: it takes camera frames and returns frames to show, without capture or
display of its own. `kinecast serve` (rooms.py) introduces two of them; the call itself goes directly between them.
Needs the extra `live` (aiortc, aiohttp).
"""

LOADING = "kinecast-load"  # the thread that loads a page's models, which may outlive the call
