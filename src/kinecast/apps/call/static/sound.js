// Sound: a WebRTC connection to the local server, which relays it into the call.

const REFUSALS = {
  NotAllowedError: "Microphone access is blocked: allow it next to the address bar. The call continues without it.",
  NotFoundError: "No microphone was found: the call continues without it.",
};

export class Sound {
  constructor(audio, link) {
    Object.assign(this, { audio, link });
  }

  // Begins to play the other person; the microphone comes in when it is turned on.
  async start() {
    if (this.peer || !("RTCPeerConnection" in window)) return;
    const peer = (this.peer = new RTCPeerConnection());
    this.sender = peer.addTransceiver("audio", { direction: "sendrecv" }).sender;
    peer.ontrack = ({ track }) => {
      track.onunmute = () => { // with the first sound: a player of silence would take as much of the processor
        if (this.peer !== peer) return;
        this.audio.srcObject = new MediaStream([track]);
        this.audio.play().catch(() => {}); // refused until the person has pressed something
      };
    };
    await this.sender.replaceTrack(this.microphone ?? null);
    await peer.setLocalDescription(await peer.createOffer());
    await gathered(peer);
    if (this.peer === peer) this.link.send("sound", { sdp: peer.localDescription.sdp });
  }

  async answer(sdp) {
    if (this.peer?.signalingState === "have-local-offer") await this.peer.setRemoteDescription({ type: "answer", sdp });
  }

  // Returns an error line for the person, or "".
  async turnOn() {
    try {
      const wanted = { echoCancellation: true, noiseSuppression: true };
      const stream = await navigator.mediaDevices.getUserMedia({ audio: wanted });
      [this.microphone] = stream.getAudioTracks();
    } catch (error) {
      return REFUSALS[error.name] ?? `The microphone did not start (${error.name}): the call continues without it.`;
    }
    await this.sender?.replaceTrack(this.microphone);
    return "";
  }

  async turnOff() {
    this.microphone?.stop();
    this.microphone = undefined;
    await this.sender?.replaceTrack(null);
  }

  stop() {
    this.peer?.close();
    this.peer = this.sender = undefined;
    this.audio.srcObject = null;
  }
}

// All candidates are addresses of this machine and come at once; the time bounds a browser that never says so.
function gathered(peer) {
  return new Promise((done) => {
    const check = () => peer.iceGatheringState === "complete" && done();
    peer.addEventListener("icegatheringstatechange", check);
    setTimeout(done, 2000);
    check();
  });
}
