// What the page asks of the local server. Every request has the token, and all but the first the session's name.

export class Gone extends Error {} // the program has ended

export class Server {
  constructor(token) {
    this.token = token;
    this.session = sessionStorage.getItem("session") ?? "";
  }

  // Opens a session, or finds the one before a reload; returns {limits, state}.
  async open() {
    const opened = sessionStorage.getItem("limits");
    if (this.session && opened) {
      const answer = await this.#fetch("GET", "/state");
      if (answer.ok) return { limits: JSON.parse(opened), state: await answer.json() };
    }
    const limits = await (await this.ask("POST", "/session")).json();
    this.session = limits.session;
    sessionStorage.setItem("session", this.session);
    sessionStorage.setItem("limits", JSON.stringify(limits));
    return { limits, state: await this.state() };
  }

  async state() {
    return (await this.ask("GET", "/state")).json();
  }

  async picture(method, path, body) {
    return URL.createObjectURL(await (await this.ask(method, path, body)).blob());
  }

  // body: an object, which is sent as JSON, or a file or buffer. An answer that is no success is an error with its line.
  async ask(method, path, body) {
    const answer = await this.#fetch(method, path, body);
    if (answer.ok) return answer;
    const line = (await answer.text()).replace(/^kinecast: /, "").trim();
    throw Object.assign(new Error(line || `expected an answer, found ${answer.status}`), { status: answer.status });
  }

  // As `ask` with a file, which tells how much of it is sent.
  send(path, file, onProgress) {
    return new Promise((done, fail) => {
      const request = new XMLHttpRequest();
      request.open("PUT", path);
      for (const [name, value] of Object.entries(this.#headers())) request.setRequestHeader(name, value);
      request.upload.onprogress = ({ loaded, total }) => onProgress(loaded / total);
      request.onload = () => {
        if (request.status < 300) return done(JSON.parse(request.responseText));
        fail(Object.assign(new Error(request.responseText.replace(/^kinecast: /, "").trim()), { status: request.status }));
      };
      // A file that has moved, or may not be read, ends as a broken connection does: ask whether kinecast is there.
      request.onerror = () =>
        this.state().then(() => fail(new Error("The file could not be sent: choose it again.")), fail);
      request.send(file);
    });
  }

  async #fetch(method, path, body) {
    const isPlain = body && Object.getPrototypeOf(body) === Object.prototype;
    try {
      return await fetch(path, { method, headers: this.#headers(), body: isPlain ? JSON.stringify(body) : body });
    } catch {
      throw new Gone("This page has lost contact with kinecast on this machine: if it has stopped, start it again and open the new address.");
    }
  }

  #headers() {
    return { "X-Kinecast-Token": this.token ?? "", "X-Kinecast-Session": this.session };
  }
}
