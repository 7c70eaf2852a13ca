'use strict';
// The page's side of worker.js: starts it, loads networks for it, and hands over its frames.
// Works from a web server and from file://, where neither fetch nor worker files are allowed: so
// the worker is made of the text of the page's own scripts.

class Client {
  constructor(wasm) {
    const texts = [...document.querySelectorAll('script.worker')].map((script) => script.text);
    const source = new Blob(texts, { type: 'text/javascript' });
    this.worker = new Worker(URL.createObjectURL(source));
    this.worker.onmessage = ({ data }) => this.receive(data);
    this.worker.onerror = (event) => this.fail(`The worker ended: ${event.message}`);
    this.worker.postMessage({ wasm });
    this.networks = {}; // name -> promise of its configuration
    this.opening = {}; // name -> {resolve, reject} of it
    this.id = 0;
    this.job = null; // {id, on_frame, resolve, reject}
  }

  receive({ id, frame, done, name, about, error }) {
    if (name && error) return this.opening[name].reject(new Error(error));
    if (name) return this.opening[name].resolve(about);
    if (id !== this.job?.id) return; // of a request that was given up
    if (frame) return this.job.on_frame(frame);
    const { resolve, reject } = this.job;
    this.job = null;
    if (error) reject(new Error(error)); else resolve(done);
  }

  fail(message) {
    for (const { reject } of [...Object.values(this.opening), this.job ?? { reject() {} }]) {
      reject(new Error(`${message}. Load the page again.`));
    }
  }

  // The configuration of a network, which is loaded when it is first asked for.
  open(name) {
    this.networks[name] ??= new Promise((resolve, reject) => {
      this.opening[name] = { resolve, reject };
      load_weights(name).then((weights) => {
        this.worker.postMessage({ name, weights }, [weights.buffer]);
      }, reject);
    });
    this.networks[name].catch(() => { delete this.networks[name]; }); // so it can be tried again
    return this.networks[name];
  }

  // Hands each frame to on_frame; returns a promise of the milliseconds that it took, or of null
  // if it was given up.  A request ends the one before.
  draw(request, on_frame) {
    this.stop();
    const id = ++this.id;
    return new Promise((resolve, reject) => {
      this.job = { id, on_frame, resolve, reject };
      this.worker.postMessage({ id, request });
    });
  }

  stop() {
    if (!this.job) return;
    this.worker.postMessage({ stop: this.job.id });
    this.job.resolve(null);
    this.job = null;
  }
}

// The bytes of a checkpoint: fetched, or from file:// as a script with base64, a third larger.
async function load_weights(name) {
  const advice = 'Check that the folder "weights" lies beside this page, and load it again.';
  if (location.protocol === 'file:') {
    const script = document.createElement('script');
    script.src = `weights/${name}.js`;
    await new Promise((resolve, reject) => {
      script.onload = resolve;
      script.onerror = () => reject(new Error(`weights/${name}.js cannot be read. ${advice}`));
      document.head.append(script);
    });
    script.remove();
    return from_base64(WEIGHTS[name]);
  }
  let answer;
  try {
    answer = await fetch(`weights/${name}.safetensors`);
  } catch {
    throw new Error(`weights/${name}.safetensors did not arrive. Check the connection, and try `
      + 'again.');
  }
  if (!answer.ok) {
    throw new Error(`weights/${name}.safetensors: the server answered ${answer.status}. ${advice}`);
  }
  return new Uint8Array(await answer.arrayBuffer());
}

const WEIGHTS = {}; // name -> base64, filled by weights/NAME.js

function from_base64(text) {
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}
