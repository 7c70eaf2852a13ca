'use strict';
// What runs beside the page, so that the page never waits: it keeps the networks and draws.
// Messages to it:  {wasm}; {name, weights}, the bytes of a checkpoint; {id, request}; {stop: id}.
// Messages from it:  {name, about} or {name, error};  {id, frame}, {id, done}, {id, error}.

const MOMENTS = 60; // of a walk that are shown, at most

const networks = {}; // name -> {network, schedule, configuration}
let wasm = null, latest = 0; // the last request; older ones end at their next step

function open_network(bytes) {
  const { configuration, tensors } = read_checkpoint(bytes);
  const network = new UNet(wasm, tensors, configuration.model);
  const schedule = schedule_of(configuration);
  target_weights(schedule, configuration.train?.target, 1); // throws, if it is unknown
  return { network, schedule, configuration };
}

// The frames that a request asks for:
// network: a name.  sampler, steps, seed.  count: B.  y: a label, or null for any.  w: guidance.
// known, mask: one image of which the rest is filled in.  sketch, t: redrawn from step t.
// between: [u, v] in [0, 1], a place between four noises of the seed, instead of x_T; then B is 1.
function draw(request) {
  const { network, schedule } = networks[request.network];
  const { sampler, steps, seed, count, known, mask, sketch, t, between } = request;
  const generator = new Generator(seed), walk = SAMPLERS[sampler];
  const x_T = () => between ? in_between(generator.randn(4 * network.pixels), between)
    : generator.randn(count * network.pixels);
  let denoise = asked(networks[request.network], request);
  if (mask) denoise = replaced(denoise, known, mask);
  if (!sketch) return walk(denoise, schedule, x_T(), { steps, generator });
  const x_0 = new Float32Array(count * network.pixels).map((_, i) => sketch[i % network.pixels]);
  return redrawn(walk, denoise, schedule, x_0, t, { steps, generator });
}

// The denoiser of a network, for the labels that are asked for.
function asked({ network, schedule, configuration }, { count, y, w, seed }) {
  const { target } = configuration.train, { labels } = configuration.model;
  if (!labels) return denoiser(network, schedule, { target, clip: true });
  const any = new Generator(seed).randint(labels, count);
  const all_y = y === null ? any : any.fill(y);
  if (!configuration.evaluations) {
    return guided(denoiser(network, schedule, { target, clip: false }), all_y, w);
  }
  const student = denoiser(network, schedule, { target, clip: true });
  return (x_t, step) => student(x_t, step, all_y); // a student is asked for the label, not guided
}

// Four noises, at the corners of a square; what is between them is a noise, too.
function in_between(noises, [u, v]) {
  const size = noises.length / 4;
  const corner = (k) => noises.subarray(k * size, (k + 1) * size);
  return slerp(slerp(corner(0), corner(1), u), slerp(corner(2), corner(3), u), v);
}

async function answer(id, request) {
  const began = performance.now();
  let i = 0;
  for (const { t, x, x_0_hat } of draw(request)) {
    if (!x.every(Number.isFinite)) {
      throw new Error(`The samples stopped being numbers at step ${t}: these weights are damaged, `
        + 'or predict another target than they say.');
    }
    const every = Math.ceil(request.steps / MOMENTS), left = request.steps - i++;
    const shown = left === request.steps || left % every === 0; // the noise, and the last one
    if (shown) postMessage({ id, frame: { t, x, x_0_hat, evaluation: i - 1 } });
    await new Promise(next_message); // a stop, or another request, may have come
    if (id !== latest) return;
  }
  postMessage({ id, done: performance.now() - began });
}

// Calls back after the messages that wait; a timer of 0 ms would take 4.
const channel = new MessageChannel(), waiting = [];
channel.port1.onmessage = () => waiting.shift()();
function next_message(then) {
  waiting.push(then);
  channel.port2.postMessage(null);
}

onmessage = async ({ data }) => {
  if (data.wasm) wasm = data.wasm;
  if (data.weights) {
    try {
      networks[data.name] = open_network(data.weights);
      postMessage({ name: data.name, about: networks[data.name].configuration });
    } catch (error) {
      postMessage({ name: data.name, error: error.message });
    }
  }
  if (data.stop === latest) latest = 0;
  if (!data.request) return;
  latest = data.id;
  try {
    await answer(data.id, data.request);
  } catch (error) {
    postMessage({ id: data.id, error: error.message });
  }
};
