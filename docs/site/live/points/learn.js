"use strict";
// The first panel: data, noise, training in a worker, and two walks back.

/** What runs in the worker: training in short turns, so that it can be paused between them. */
function work() {
  const TURN = 100; // milliseconds
  let training = null, paused = false, seconds = 0, next = null;
  const turn = () => {
    if (paused) return;
    const began = performance.now();
    let loss = 0, count = 0;
    while (training.k < training.steps && performance.now() < began + TURN) {
      loss += training.step();
      count += 1;
    }
    seconds += (performance.now() - began) / 1000;
    const { k, steps, network } = training;
    postMessage({ k, steps, loss: loss / count, seconds, parameters: network.parameters.slice() });
    if (k < steps) next = setTimeout(turn);
  };
  onmessage = ({ data }) => {
    if (data.start) training = new Training(data.start);
    paused = Boolean(data.pause);
    clearTimeout(next); // or there would be two of them after a short pause
    turn();
  };
}

/** A worker from source text, because a page opened as a file may not start one from a file. */
function start_worker() {
  const parts = [Kernel, assemble, Random, Schedule, jump, Network, Adam, Training];
  const source = `"use strict";\n${parts.join("\n\n")}\n(${work})();`;
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new Worker(url);
  URL.revokeObjectURL(url);
  return worker;
}

const learn = {
  schedule: new Schedule(),
  network: null, // with the latest weights
  worker: null,
  phase: "ready", // ready, training, paused or trained
  data: new Float32Array(0),
  source: "swiss roll",
  eps: null, // the noise of panel 2
  x_T: null, // the noise from which all walks begin
  losses: [],
  preview: null,
  walks: [null, null],
  cross: [0, 0],
  playing: null,
};
const COUNT = 4000, SHOWN = 400; // points to learn from; points that walk
const SAMPLERS = {
  DDPM: (guess, x, tau) => ddpm(guess, learn.schedule, x, tau, new Random(11)),
  DDIM: (guess, x, tau) => ddim(guess, learn.schedule, x, tau),
  "DPM-Solver++ (2M)": (guess, x, tau) => dpm_solver(guess, learn.schedule, x, tau),
};
const guess = (x, t) => learn.network.guess(x, t);
const say = (text) => { byId("learn-status").textContent = text; };
/** Beside a slider, and to screen readers as its value. */
const show_value = (id, text) => {
  byId(`${id}-t`).textContent = text;
  byId(id).setAttribute("aria-valuetext", text);
};
const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

// ---- 1. data -----------------------------------------------------------------------------------

const data_plane = new Plane(byId("data"), 2.5, (plane) => {
  plane.points(learn.data.subarray(0, 2 * 3000), "data", 1.2);
  if (!learn.data.length) {
    plane.pen.fillStyle = plane.colour("soft");
    plane.pen.font = "1rem system-ui, sans-serif";
    plane.pen.textAlign = "center";
    plane.pen.fillText("Draw here", plane.width / 2, plane.height / 2 - 16);
  }
  if (document.activeElement === plane.canvas) {
    const [across, down] = plane.at(...learn.cross);
    plane.pen.fillStyle = plane.colour("noise");
    plane.pen.fillRect(across - 9, down - 1, 18, 2);
    plane.pen.fillRect(across - 1, down - 9, 2, 18);
  }
});

function set_data(points, source) {
  if (source !== "drawing" || learn.source !== source || learn.phase !== "ready") forget();
  learn.data = points;
  learn.source = source;
  for (const radio of document.querySelectorAll("[name=shape]")) {
    radio.checked = radio.value === source;
  }
  const seen = `${source}, ${points.length / 2} points`;
  byId("data").setAttribute("aria-label", `Square to draw in; it shows: ${seen}`);
  data_plane.refresh();
  noised_plane.refresh();
  show_state();
}

function choose(source) {
  const random = new Random(3);
  const points = {
    drawing: () => new Float32Array(0),
    word: () => points_of_word(byId("word").value.trim(), COUNT, random),
  }[source] ?? (() => points_of(source, COUNT, random));
  set_data(points(), source);
}

/** Some points around each place of a line from `from` to `to`. */
function draw_line([x, y], [to_x, to_y]) {
  const before = learn.source === "drawing" ? [...learn.data] : [];
  const pieces = Math.max(1, Math.ceil(Math.hypot(to_x - x, to_y - y) / 0.03));
  const z = new Random(before.length + 1).normal(8 * pieces);
  for (let i = 0; i < 8 * pieces; i += 2) {
    const share = (1 + (i >> 3)) / pieces;
    before.push(x + share * (to_x - x) + 0.03 * z[i], y + share * (to_y - y) + 0.03 * z[i + 1]);
  }
  set_data(Float32Array.from(before.slice(-2 * 20000)), "drawing");
}

function listen_to_drawing(canvas) {
  let last = null;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = data_plane.where(event);
    draw_line(last, last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    const here = data_plane.where(event);
    draw_line(last, here);
    last = here;
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, () => { last = null; });
  }
  for (const change of ["focus", "blur"]) {
    canvas.addEventListener(change, () => data_plane.refresh());
  }
  canvas.addEventListener("keydown", (event) => {
    const [x, y] = learn.cross, by = arrow_key(event);
    if (by) {
      const inside = (z) => Math.max(-2.4, Math.min(2.4, z));
      learn.cross = [inside(x + by[0]), inside(y + by[1])];
      data_plane.refresh();
    } else if (event.key === " ") {
      draw_line([x, y], [x, y]);
      say(`Points at ${x.toFixed(1)}, ${y.toFixed(1)}.`);
    } else if (event.key === "Backspace" || event.key === "Delete") {
      const far = (_, i) => Math.hypot(learn.data[i & ~1] - x, learn.data[i | 1] - y) > 0.2;
      set_data(learn.data.filter(far), "drawing");
    } else return;
    event.preventDefault();
  });
}

// ---- 2. noise ----------------------------------------------------------------------------------

const noised_plane = new Plane(byId("noised"), 2.5, (plane) => {
  const t = Number(byId("forward").value), x_0 = learn.data.subarray(0, 2 * 1500);
  learn.eps ??= new Random(5).normal(2 * 1500);
  plane.points(jump(learn.schedule, x_0, t, learn.eps), t < 25 ? "data" : "noise", 1.4);
  const left = percent(learn.schedule.alpha_bar[t]);
  show_value("forward", `${t}: ${left} of the data's variance is left`);
  const seen = `The data with noise, at step ${t}: ${left} of their variance is left`;
  plane.canvas.setAttribute("aria-label", seen);
});

// ---- 3. training -------------------------------------------------------------------------------

const preview_plane = new Plane(byId("preview"), 2.5, (plane) => {
  if (learn.preview) plane.points(learn.preview, "model");
});
const loss_plane = new Plane(byId("loss"), 1, ({ pen, width, height, colour, canvas }) => {
  const style = getComputedStyle(canvas);
  pen.fillStyle = style.getPropertyValue("--soft");
  pen.font = "0.75rem system-ui, sans-serif";
  pen.textAlign = "right";
  const last = learn.losses.at(-1);
  pen.fillText(last ? `loss ${last[1].toFixed(2)}` : "loss", width - 6, 16);
  pen.strokeStyle = style.getPropertyValue("--model");
  pen.lineWidth = 1.5;
  pen.beginPath();
  for (const [share, loss] of learn.losses) {
    pen.lineTo(share * width, height * (1 - Math.min(loss, 1.1) / 1.15));
  }
  pen.stroke();
});

/** Back to an untrained network. */
function forget() {
  learn.worker?.terminate();
  stop_playing();
  Object.assign(learn, { worker: null, network: null, phase: "ready" });
  Object.assign(learn, { losses: [], preview: null, walks: [null, null] });
  byId("progress").value = 0;
  byId("progress-text").textContent = "";
  [preview_plane, loss_plane, ...walk_planes].forEach((plane) => plane.refresh());
}

function train() {
  if (learn.phase === "training" || learn.phase === "paused") {
    learn.phase = learn.phase === "training" ? "paused" : "training";
    learn.worker.postMessage({ pause: learn.phase === "paused" });
    say(learn.phase === "paused" ? "Training is paused." : "Training goes on.");
    show_state();
    return;
  }
  forget();
  learn.network = new Network(new Kernel(), learn.schedule, 256, null);
  learn.x_T ??= new Random(7).normal(2 * SHOWN);
  const worker = learn.worker = start_worker();
  worker.onmessage = ({ data }) => { if (worker === learn.worker) learned(data); };
  worker.onerror = ({ message }) => say(`Training failed: ${message}`);
  worker.postMessage({ start: { points: learn.data, steps: Number(byId("steps").value) } });
  learn.phase = "training";
  const slow = " This browser has no fast WebAssembly: it takes minutes.";
  say(`Training on ${learn.data.length / 2} points.${learn.network.kernel.code ? "" : slow}`);
  show_state();
}

let free = 0; // the next preview may be made from then on, so that they cost a fifth of the time
function learned({ k, steps, loss, seconds, parameters }) {
  learn.network.parameters.set(parameters);
  learn.losses.push([k / steps, loss]);
  byId("progress").value = k / steps;
  byId("progress-text").textContent = `${k} of ${steps} steps, ${seconds.toFixed(1)} s`;
  loss_plane.refresh();
  byId("loss").setAttribute("aria-label", `Loss after ${k} training steps: ${loss.toFixed(2)}`);
  const began = performance.now();
  if (began >= free || k === steps) {
    const tau = even_tau(learn.schedule.T, 10);
    for (const [, x] of ddim(guess, learn.schedule, learn.x_T, tau)) learn.preview = x;
    free = performance.now() + 5 * (performance.now() - began);
    preview_plane.refresh();
  }
  if (k < steps) return;
  learn.phase = "trained";
  learn.worker.terminate();
  walk_back();
  show_state();
  say(`Trained in ${seconds.toFixed(1)} seconds. Now watch the walk back.`);
  if (still.matches) move_to(0);
  else play_when_seen();
}

// ---- 4. the walk back --------------------------------------------------------------------------

const walk_planes = [0, 1].map((which) => new Plane(byId(`walk-${which}`), 2.5, (plane) => {
  const t = Number(byId("back").value), walk = learn.walks[which];
  show_value("back", String(t));
  byId(`result-${which}`).textContent = walk ? walk.result : "Train first.";
  if (!walk) return;
  if (byId("arrows").checked) {
    const places = plane.grid(15), step = Math.max(t, 1);
    plane.arrows(places, score_from(learn.schedule, step, guess(places, step)), "quiet");
  }
  const [reached, x] = walk.frames.filter(([step]) => step >= t).at(-1);
  plane.points(x, reached === 0 ? "model" : "noise", 1.8);
  const seen = `${walk.name}: ${x.length / 2} points at step ${reached}. ${walk.result}`;
  plane.canvas.setAttribute("aria-label", seen);
}));

/** Both walks, from x_T to their ends. */
function walk_back() {
  if (learn.phase !== "trained") return;
  learn.walks = [0, 1].map((which) => {
    const name = byId(`sampler-${which}`).value, S = Number(byId(`count-${which}`).value);
    const frames = [...SAMPLERS[name](guess, learn.x_T, even_tau(learn.schedule.T, S))];
    const [median, mean] = distances(frames.at(-1)[1], learn.data);
    const [before] = distances(learn.x_T, learn.data);
    const result = `Distance to the data: median ${median.toFixed(3)}, mean ${mean.toFixed(3)} ` +
      `(the noise: median ${before.toFixed(2)})`;
    return { name, frames, result };
  });
  walk_planes.forEach((plane) => plane.refresh());
}

/** From a point of x to the nearest point of y: the median, and the mean. */
function distances(x, y) {
  const nearest = [];
  for (let i = 0; i < x.length; i += 2) {
    let least = Infinity;
    for (let j = 0; j < y.length; j += 2) {
      least = Math.min(least, (x[i] - y[j]) ** 2 + (x[i + 1] - y[j + 1]) ** 2);
    }
    nearest.push(Math.sqrt(least));
  }
  nearest.sort((a, b) => a - b);
  return [nearest[nearest.length >> 1], nearest.reduce((a, b) => a + b) / nearest.length];
}

function move_to(t) {
  byId("back").value = t;
  walk_planes.forEach((plane) => plane.refresh());
}

function play() {
  if (Number(byId("back").value) === 0) move_to(learn.schedule.T);
  learn.playing = setInterval(() => {
    const t = Number(byId("back").value);
    if (t > 0) move_to(t - 1);
    if (t <= 1) stop_playing();
  }, 90);
  show_state();
}

/** On a phone the two squares may be below the screen when training ends. */
function play_when_seen() {
  move_to(learn.schedule.T);
  const watcher = new IntersectionObserver(([entry]) => {
    if (!entry.isIntersecting) return;
    watcher.disconnect();
    if (learn.phase === "trained" && !learn.playing) play();
  }, { threshold: 0.3 });
  watcher.observe(byId("walk-0"));
}

function stop_playing() {
  clearInterval(learn.playing);
  learn.playing = null;
  show_state();
}

// ---- controls ----------------------------------------------------------------------------------

function show_state() {
  const { phase } = learn, few = learn.data.length < 2 * 20;
  const verbs = { ready: "Train", training: "Pause", paused: "Resume", trained: "Train anew" };
  byId("train").textContent = verbs[phase];
  byId("train").disabled = few;
  byId("steps").disabled = phase === "training" || phase === "paused";
  byId("play").textContent = learn.playing ? "Pause" : "Play";
  for (const id of ["play", "again", "back"]) byId(id).disabled = phase !== "trained";
}

function listen() {
  for (const name of [...Object.keys(SHAPES), "word", "drawing"]) {
    const label = document.createElement("label"), radio = document.createElement("input");
    Object.assign(radio, { type: "radio", name: "shape", value: name });
    radio.addEventListener("change", () => choose(name));
    label.append(radio, ` ${name === "drawing" ? "my drawing" : name}`);
    byId("shapes").append(label);
  }
  const options = (id, names, chosen) => {
    byId(id).append(...names.map((name) => new Option(name)));
    byId(id).value = chosen;
    byId(id).addEventListener("change", walk_back);
  };
  for (const which of [0, 1]) {
    options(`sampler-${which}`, Object.keys(SAMPLERS), ["DDPM", "DDIM"][which]);
    options(`count-${which}`, ["50", "25", "10", "5"], ["50", "10"][which]);
  }
  listen_to_drawing(byId("data"));
  byId("word").addEventListener("input", () => choose("word"));
  byId("clear").addEventListener("click", () => choose("drawing"));
  byId("forward").addEventListener("input", () => noised_plane.refresh());
  byId("back").addEventListener("input", () => {
    stop_playing();
    move_to(byId("back").value);
  });
  byId("arrows").addEventListener("change", () => walk_planes.forEach((plane) => plane.refresh()));
  byId("train").addEventListener("click", train);
  byId("play").addEventListener("click", () => (learn.playing ? stop_playing() : play()));
  byId("again").addEventListener("click", () => {
    learn.x_T = new Random(Date.now()).normal(2 * SHOWN);
    walk_back();
    say("Both walks begin at other noise.");
  });
  byId("reset").addEventListener("click", () => {
    learn.x_T = null;
    byId("back").value = learn.schedule.T;
    choose("swiss roll");
    say("Back at the beginning.");
  });
}

listen();
choose("swiss roll");
