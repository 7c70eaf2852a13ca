'use strict';
// The controls: what they ask for becomes a request (see `draw` in worker.js), and its frames are
// shown.  Starting from noise, one presses Draw; from anything else, each change draws anew.

const $ = (id) => document.getElementById(id);
const NETWORKS = JSON.parse($('networks').text || '[]'); // [{name, title}], by tools/live.py
const STEPS = [1, 2, 3, 4, 5, 8, 10, 15, 25, 50, 100, 250, 1000];
const FEW = 5; // evaluations, with which a picture follows the pointer
const TITLES = {
  'dpm++': 'DPM-Solver++', ddim: 'DDIM', ddpm: 'DDPM (takes hundreds)', multistep: 'multistep',
};

let client = null, desk = null;
let about = null; // the configuration of the network that is chosen
let frames = []; // of the walk that is shown
let wanted = false, drawing = false;

// --- what is asked for

const start = () => new FormData($('controls')).get('start');
const live = () => start() !== 'noise';
const size = () => about.model.image_size;

function request() {
  const from = start(), t = Number($('t').value), steps = Number($('steps').value);
  const seed = Number($('seed').value);
  if (!$('seed').checkValidity()) {
    throw new Error('The seed must be a whole number from 0 to 4294967295.');
  }
  return {
    network: $('network').value,
    sampler: $('sampler').value,
    steps: from === 'sketch' ? Math.min(steps, t) : steps,
    seed,
    count: from === 'noise' || from === 'hole' ? Number($('count').value) : 1,
    y: about.model.labels && $('label').value !== 'any' ? Number($('label').value) : null,
    w: Number($('w').value),
    known: from === 'hole' ? desk.picture.slice() : null,
    mask: from === 'hole' ? desk.mask() : null,
    sketch: from === 'sketch' ? desk.picture.slice() : null,
    t,
    between: from === 'between' ? [Number($('u').value), Number($('v').value)] : null,
  };
}

// The command that draws the same; Python has the other ways to start as functions.
function in_python({ network, sampler, steps, seed, count, y, w }) {
  const from = start();
  if (from === 'between') return 'tutorial_lib.beyond.inversion.slerp  # of randn(4, 1, 28, 28)';
  if (from === 'sketch') return 'tutorial_lib.beyond.editing.redrawn  # with the sampler ddpm';
  if (from === 'hole') return 'tutorial_lib.beyond.editing.replaced  # around the denoiser';
  const own = sampler === 'multistep' ? '' : ` --sampler ${sampler}`;
  const label = y === null ? '' : ` --label ${y}`;
  const guidance = about.model.labels && !about.evaluations ? ` --guidance ${w}` : '';
  return `python -m tutorial_lib sample --weights ${network}${own} --steps ${steps} `
    + `--seed ${seed} --count ${count}${label}${guidance} --out garments.png`;
}

// --- drawing: one request at a time; what changes meanwhile is drawn afterwards

function redraw({ now = false } = {}) {
  if ($('draw').disabled) return; // there is no network yet
  wanted = true;
  if (now) client.stop();
  if (!drawing) keep_drawing();
}

async function keep_drawing() {
  drawing = true;
  $('stop').disabled = false;
  while (wanted) {
    wanted = false;
    try {
      await draw_once(request());
    } catch (error) {
      say_trouble(error.message);
    }
  }
  drawing = false;
  $('stop').disabled = true;
}

async function draw_once(asked) {
  say_trouble('');
  const own = [], quiet = live(); // a picture that follows the pointer must not flicker
  if (!quiet) say(`Drawing, ${asked.steps} evaluations.`);
  const ms = await client.draw(asked, (frame) => {
    own.push(frame);
    if (quiet) return;
    frames = own;
    set_moment(own.length - 1, asked);
  });
  if (ms === null) {
    if (!wanted) say('Stopped.');
    return;
  }
  frames = own;
  set_moment(own.length - 1, asked);
  $('code').textContent = in_python(asked);
  const many = asked.count === 1 ? '1 garment' : `${asked.count} garments`;
  const how = `${asked.steps} evaluation${asked.steps === 1 ? '' : 's'}`;
  if (!quiet) say(`${many}, ${how}, ${(ms / 1000).toFixed(2)} s.`);
  $('speed').textContent = quiet ? `${many}, ${how}: ${ms.toFixed(0)} ms.` : '';
}

function say(text) { $('status').textContent = text; }

function say_trouble(text) {
  $('trouble').textContent = text;
  $('trouble').hidden = !text;
}

// --- the way from noise

function set_moment(i, asked) {
  const { t, x, x_0_hat, evaluation } = frames[i];
  show($('x_t'), x, size());
  show($('x_0_hat'), x_0_hat, size());
  const bar = $('moment'), total = frames.at(-1).evaluation;
  bar.max = frames.length - 1;
  bar.value = i;
  bar.disabled = $('play').disabled = frames.length < 2;
  const text = `t = ${t}, after ${evaluation} of ${asked?.steps ?? total} evaluations`;
  bar.setAttribute('aria-valuetext', text);
  $('moment-says').textContent = text;
  const count = x.length / size() ** 2;
  const what = count === 1 ? 'One image' : `A grid of ${count} images`;
  $('x_t').setAttribute('aria-label', `${what}: the state x_t at t = ${t}`);
  const estimate = evaluation ? `the estimate of x_0 that led to t = ${t}` : 'no estimate yet';
  $('x_0_hat').setAttribute('aria-label', `${what}: ${estimate}`);
}

let playing = null;
function play() {
  if (playing) return pause();
  let i = Number($('moment').value) === frames.length - 1 ? 0 : Number($('moment').value);
  $('play').textContent = 'Pause';
  playing = setInterval(() => {
    set_moment(i++);
    if (i >= frames.length) pause();
  }, 120);
}

function pause() {
  clearInterval(playing);
  playing = null;
  $('play').textContent = 'Play';
}

// --- controls that depend on others

function options(select, values, chosen) { // values: [[value, text]]
  select.replaceChildren(...values.map(([value, text]) => new Option(text, value)));
  select.value = values.some(([value]) => String(value) === String(chosen)) ? chosen : values[0][0];
}

// Show what this network can do.  Throws what it cannot.
function fit_controls() {
  const { model, train, evaluations, images } = about;
  if (model.channels !== 1) throw new Error('This page shows grey pictures only.');
  const T = about.beta?.length ?? train.T, student = evaluations?.length;
  const names = student ? ['multistep'] : ['dpm++', 'ddim', 'ddpm'];
  options($('sampler'), names.map((name) => [name, TITLES[name]]), $('sampler').value);
  const steps = student ? evaluations : STEPS.filter((S) => S <= T);
  const chosen = student ? evaluations.at(-1) : $('steps').value || 10;
  options($('steps'), steps.map((S) => [S, S]), chosen);
  const names_of = images?.classes ?? CLASSES;
  const classes = Array.from({ length: model.labels ?? 0 }, (_, y) => [y, names_of[y] ?? y]);
  options($('label'), [['any', 'any'], ...classes], $('label').value);
  $('label-field').hidden = !model.labels;
  $('w-field').hidden = !model.labels || Boolean(student);
  $('t').max = T;
  if (desk?.size !== model.image_size) make_desk();
}

// Settings may stand in the address, as in #seed=7&steps=5&count=4.
function take_address() {
  const settings = ['network', 'label', 'w', 'sampler', 'steps', 'seed', 'count', 't'];
  for (const [id, value] of new URLSearchParams(location.hash.slice(1))) {
    if (!settings.includes(id)) continue;
    const before = $(id).value;
    $(id).value = value;
    if ($(id).value !== value) $(id).value = before; // there is no such choice
  }
  say_values();
}

// Fashion-MNIST's (tutorial_lib/data.py).
const CLASSES = ['T-shirt', 'trouser', 'pullover', 'dress', 'coat', 'sandal', 'shirt', 'sneaker',
  'bag', 'ankle boot'];

async function choose_network() {
  const name = $('network').value;
  say('Loading the network.');
  say_trouble('');
  $('draw').disabled = true;
  try {
    const first = about === null;
    const configuration = await client.open(name);
    if (name !== $('network').value) return; // another one has been chosen meanwhile
    about = configuration;
    fit_controls();
    if (first) take_address();
    $('draw').disabled = false;
    choose_start();
  } catch (error) {
    say('');
    say_trouble(error.message);
  }
}

function choose_start() {
  if (!about) return; // when the network is there, this is called again
  const from = start();
  $('between').hidden = from !== 'between';
  $('board').hidden = from !== 'sketch' && from !== 'hole';
  $('t-field').hidden = from !== 'sketch';
  $('count-field').hidden = from === 'between' || from === 'sketch';
  $('tool').value = from === 'hole' ? 'hole 1' : 'picture 1';
  $('width').value = from === 'hole' ? 4 : 2;
  choose_tool();
  const follows = from === 'between' || from === 'sketch'; // the pointer: so it has to be quick
  if (follows && !about.evaluations && $('steps').value > FEW) $('steps').value = FEW;
  if (from === 'hole' && desk.picture.every((value) => value === -1)) take();
  say('');
  redraw({ now: true });
}

// --- the drawing board

function make_desk() {
  desk = new Desk($('desk'), size());
  $('desk').setAttribute('aria-label', `Drawing board, ${size()} by ${size()} pixels`);
  desk.on_change = () => redraw();
  desk.on_move = () => {
    const i = desk.y * size() + desk.x;
    const what = desk.hole[i] ? 'hole' : `${Math.round((desk.picture[i] + 1) * 50)} % white`;
    $('where').textContent = `column ${desk.x + 1}, row ${desk.y + 1}: ${what}`;
  };
  desk.render();
  choose_tool();
}

function choose_tool() {
  const [layer, value] = $('tool').value.split(' ');
  desk.tool = { layer, value: Number(value), width: Number($('width').value) };
}

// Put one of the garments that are shown on the board.
function take() {
  if (!frames.length) return;
  const { x } = frames.at(-1), D = size() ** 2, count = x.length / D;
  const k = Math.min(count, Math.max(1, Math.round(Number($('garment').value)) || 1));
  $('garment').value = k;
  desk.put(x.slice((k - 1) * D, k * D));
}

function take_clicked(event) {
  if ($('board').hidden || !frames.length) return;
  const box = event.target.getBoundingClientRect(), columns = event.target.width / size();
  const rows = event.target.height / size();
  const column = Math.floor((event.clientX - box.left) / box.width * columns);
  const row = Math.floor((event.clientY - box.top) / box.height * rows);
  $('garment').value = row * columns + column + 1;
  take();
  redraw();
}

// --- the square between four noises

function move_on_pad(event) {
  const box = $('pad').getBoundingClientRect();
  const share = (value) => Math.min(1, Math.max(0, value)).toFixed(2);
  $('u').value = share((event.clientX - box.left) / box.width);
  $('v').value = share((event.clientY - box.top) / box.height);
  place_dot();
}

function place_dot() {
  $('dot').style.left = `${100 * $('u').value}%`;
  $('dot').style.top = `${100 * $('v').value}%`;
  redraw();
}

// --- beginning

function say_values() {
  $('w-says').textContent = Number($('w').value).toFixed(1);
  $('t-says').textContent = $('t').value;
}

function listen() {
  $('controls').onsubmit = (event) => {
    event.preventDefault();
    redraw({ now: true });
  };
  $('another').onclick = () => {
    $('seed').value = (Number($('seed').value) + 1) % 2 ** 32 || 0;
    redraw({ now: true });
  };
  $('stop').onclick = () => {
    wanted = false;
    client.stop();
  };
  $('network').onchange = choose_network;
  for (const id of ['label', 'w', 'sampler', 'steps', 'seed', 'count', 't']) {
    $(id).addEventListener('input', () => {
      say_values();
      if (live()) redraw();
    });
  }
  for (const radio of document.getElementsByName('start')) radio.onchange = choose_start;
  $('moment').oninput = () => {
    pause();
    set_moment(Number($('moment').value));
  };
  $('play').onclick = play;
  $('tool').onchange = $('width').onchange = choose_tool;
  $('take').onclick = () => {
    take();
    redraw();
  };
  $('clear').onclick = () => desk.clear();
  $('x_t').onclick = $('x_0_hat').onclick = take_clicked;
  $('pad').onpointermove = $('pad').onpointerdown = move_on_pad;
  $('u').oninput = $('v').oninput = place_dot;
}

function begin() {
  if (!NETWORKS.length) {
    say_trouble('These are the sources of the page. Put it together with `python tools/live.py`, '
      + 'and open build/site/live/garments/index.html.');
    return;
  }
  const wasm = from_base64($('wasm').text.trim());
  if (typeof WebAssembly !== 'object' || !WebAssembly.validate(wasm)) {
    say_trouble('This browser has no WebAssembly with SIMD, with which this page computes. Use '
      + 'Firefox 89, Chrome or Edge 91, Safari 16.4, or a later one, and leave WebAssembly '
      + 'switched on; or draw with `python -m tutorial_lib sample --out garments.png`.');
    $('controls').inert = true;
    return;
  }
  client = new Client(wasm);
  options($('network'), NETWORKS.map(({ name, title }) => [name, title]));
  $('network-field').hidden = NETWORKS.length < 2;
  $('dot').style.left = $('dot').style.top = '50%';
  take_address();
  listen();
  choose_network();
}

begin();
