'use strict';
// The network, as in tutorial_lib/nets/unet.py: the same layers in the same order, as calls of the
// kernels in unet.c.  What it consists of is read from the configuration of the checkpoint.

const NOBODY = -1; // the label of an image that has none

// wasm: the bytes of unet.wasm.  tensors, config: of a checkpoint; config is its "model".
class UNet {
  constructor(wasm, tensors, config) {
    this.config = check_config(config);
    this.tensors = tensors;
    this.kernels = new WebAssembly.Instance(new WebAssembly.Module(wasm)).exports;
    this.pixels = config.channels * config.image_size ** 2; // numbers in one image
    this.top = this.kernels.heap();
    this.weights = {};
    for (const name of Object.keys(tensors)) this.weights[name] = this.lay_out(name);
    this.start = this.top; // what lies behind is for activations
    this.B = 0;
  }

  // --- memory

  // Room for so many numbers, zeros at first; returns where.
  allocate(count) {
    const at = (this.top + 15) & ~15;
    this.top = at + 4 * count;
    const missing = this.top - this.kernels.memory.buffer.byteLength;
    if (missing > 0) this.kernels.memory.grow(Math.ceil(missing / 65536));
    this.floats(at, count).fill(0);
    return at;
  }

  // A view of memory; when memory grows, older views are lost.
  floats(at, count) { return new Float32Array(this.kernels.memory.buffer, at, count); }

  // Weights in the order that `conv` wants: [C_out / 8][taps][C_in][8], filled up with zeros.
  lay_out(name) {
    const { shape, data } = this.tensors[name], [C_out, C_in] = shape;
    if (shape.length === 1 || name === 'of_label.weight') return this.keep(data);
    const taps = (shape[2] ?? 1) * (shape[3] ?? 1), count = 8 * Math.ceil(C_out / 8) * C_in * taps;
    const at = this.allocate(count), to = this.floats(at, count);
    const folded = name.endsWith('mix.weight'); // `fold` gives (p q c) where torch has (c p q)
    for (let o = 0, from = 0; o < C_out; o++) {
      for (let i = 0; i < C_in; i++) {
        const c = folded ? (i % 4) * (C_in / 4) + (i >> 2) : i;
        for (let tap = 0; tap < taps; tap++, from++) {
          to[(((o >> 3) * taps + tap) * C_in + c) * 8 + (o & 7)] = data[from];
        }
      }
    }
    return at;
  }

  // Numbers as they are, filled up to a multiple of 8.
  keep(data) {
    const count = 8 * Math.ceil(data.length / 8), at = this.allocate(count);
    this.floats(at, count).set(data);
    return at;
  }

  weight(name) {
    if (!(name in this.weights)) {
      throw new Error(`The weights have no tensor "ema.${name}", so they do not fit their `
        + 'configuration. Write them again with tutorial_lib.checkpoint.save.');
    }
    return this.weights[name];
  }

  // --- layers: each notes what is to be called, and returns its output {at, size, C, bordered}

  // Room for B pictures.  Pictures that are given back are used again; borders stay zero.
  picture(size, C, bordered = 0) {
    const key = `${size} ${C} ${bordered}`, free = (this.free[key] ??= []);
    const at = free.pop() ?? this.allocate(this.B * (size + 2 * bordered) ** 2 * C);
    return { at, size, C, bordered, key };
  }

  room({ at, size, C, bordered }) {
    return this.floats(at, this.B * (size + 2 * bordered) ** 2 * C);
  }

  give_back(...pictures) { for (const { key, at } of pictures) this.free[key].push(at); }

  call(kernel, ...given) { this.calls.push(() => this.kernels[kernel](...given)); }

  // k = 3: x is bordered.  skip: a picture that is added.
  conv(name, x, C, k, skip = { at: 0 }) {
    const out = this.picture(x.size, C), bias = this.weight(`${name}.bias`);
    this.call('conv', x.at, this.B, x.size, x.size, x.C, k, this.weight(`${name}.weight`), bias,
      skip.at, out.at, C);
    return out;
  }

  norm(name, x, { silu, bordered, scale_shift = { at: 0 } }) {
    const out = this.picture(x.size, x.C, bordered);
    this.call('norm', x.at, this.B, x.size, x.size, x.C, this.config.groups,
      this.weight(`${name}.weight`), this.weight(`${name}.bias`), scale_shift.at, silu, bordered,
      out.at, this.scratch);
    return out;
  }

  linear(name, x, C) { return this.conv(name, x, C, 1); } // x: B rows, pictures of one pixel

  silu(x) { this.call('silu', x.at, this.B * x.C); }

  // Two 3x3 convolutions, each behind group norm and SiLU, and a skip around both.
  residual_block(name, x, C, embedding) {
    const time = this.linear(`${name}.scale_shift`, embedding, 2 * C);
    const a = this.norm(`${name}.norm_1`, x, { silu: 1, bordered: 1 });
    const b = this.conv(`${name}.conv_1`, a, C, 3);
    const c = this.norm(`${name}.norm_2`, b, { silu: 1, bordered: 1, scale_shift: time });
    const skip = x.C === C ? x : this.conv(`${name}.skip`, x, C, 1);
    const out = this.conv(`${name}.conv_2`, c, C, 3, skip);
    this.give_back(time, a, b, c);
    if (skip !== x) this.give_back(skip);
    return out;
  }

  attention(name, x) {
    const { heads } = this.config;
    const a = this.norm(`${name}.norm`, x, { silu: 0, bordered: 0 });
    const qkv = this.conv(`${name}.to_qkv`, a, 3 * x.C, 1);
    const context = this.picture(x.size, x.C);
    const positions = x.size ** 2;
    this.call('attend', qkv.at, this.B, positions, heads, x.C / heads, context.at, this.scratch);
    const out = this.conv(`${name}.out`, context, x.C, 1, x);
    this.give_back(a, qkv, context);
    return out;
  }

  down(name, x, C) { // half the height and width
    const folded = this.picture(x.size / 2, 4 * x.C);
    this.call('fold', x.at, this.B, folded.size, folded.size, x.C, folded.at);
    const out = this.conv(`${name}.mix`, folded, C, 1);
    this.give_back(folded);
    return out;
  }

  up(name, x, C) { // twice the height and width
    const repeated = this.picture(2 * x.size, x.C, 1);
    this.call('repeat', x.at, this.B, x.size, x.size, x.C, repeated.at);
    const out = this.conv(`${name}.smooth`, repeated, C, 3);
    this.give_back(repeated);
    return out;
  }

  concat(a, b) {
    const out = this.picture(a.size, a.C + b.C);
    this.call('concat', a.at, b.at, this.B * a.size ** 2, a.C, b.C, out.at);
    return out;
  }

  // --- the whole, for batches of B: `forward` of unet.py, once, as a list of calls

  prepare(B) {
    const { widths, blocks, patch, channels, image_size } = this.config;
    const first = widths[0], last = widths.at(-1), width_t = 4 * first;
    const folded = channels * patch ** 2, size = image_size / patch;
    this.top = this.start;
    [this.B, this.free, this.calls] = [B, {}, []];
    const coarsest = size / 2 ** (widths.length - 1);
    this.scratch = this.allocate(Math.max(4 * Math.max(...widths), coarsest ** 2 + 4));

    this.time = this.picture(1, first);
    const hidden = this.linear('embed.0', this.time, width_t);
    this.silu(hidden);
    const embedding = this.linear('embed.2', hidden, width_t);
    this.silu(embedding);

    // The stem: patches of p x p pixels are channels, and become features.
    this.input = this.picture(size, folded, 1);
    let x = this.conv('stem', this.input, first, 3);
    const then = (next) => { this.give_back(x); x = next; };

    // The way down: every block's output is also kept for the way up.
    const skips = [];
    let i = 0;
    widths.forEach((width, level) => {
      if (level > 0) x = this.down(`down.${i++}`, x, width); // what it came from is kept
      for (let n = 0; n < blocks; n++) {
        const next = this.residual_block(`down.${i++}`, x, width, embedding);
        if (n === 0) this.give_back(x);
        skips.push(x = next);
      }
    });

    // The middle: at the coarsest level all positions see each other.
    x = this.residual_block('middle_1', x, last, embedding);
    then(this.attention('attention', x));
    then(this.residual_block('middle_2', x, last, embedding));

    // The way up: every block also sees what its partner on the way down kept.
    i = 0;
    for (let level = widths.length - 1; level >= 0; level--) {
      for (let n = 0; n < blocks; n++) {
        const skip = skips.pop(), both = this.concat(x, skip);
        then(this.residual_block(`up.${i++}`, both, widths[level], embedding));
        this.give_back(both, skip);
      }
      if (level > 0) then(this.up(`up.${i++}`, x, widths[level - 1]));
    }

    // The end: features become patches of pixels.  Kernels write four channels at once.
    const end = this.norm('norm', x, { silu: 1, bordered: 1 });
    this.output = this.conv('out', end, 4 * Math.ceil(folded / 4), 3);
    for (const ends of [this.input, this.output]) ends.place = this.places(ends);
  }

  // Predicts, from noisy images and their step, the target of the training.
  // x_t: Float32Array, B images one behind the other.  t: their step, one for all.
  // y: B labels, NOBODY for none; by default nobody's.  Returns a Float32Array like x_t.
  run(x_t, t, y = null) {
    const B = x_t.length / this.pixels;
    if (B !== this.B) this.prepare(B);
    this.embed(t, y);
    const into = this.room(this.input), stride = into.length / B;
    x_t.forEach((value, i) => {
      const b = Math.floor(i / this.pixels);
      into[b * stride + this.input.place[i % this.pixels]] = value;
    });
    for (const call of this.calls) call();
    const from = this.room(this.output), step = from.length / B;
    return x_t.map((_, i) => {
      const b = Math.floor(i / this.pixels);
      return from[b * step + this.output.place[i % this.pixels]];
    });
  }

  // Sines and cosines of t, and the embedding of the label added: B rows.
  embed(t, y) {
    const width = this.config.widths[0], half = width / 2;
    const rows = this.floats(this.time.at, this.B * width);
    for (let i = 0; i < half; i++) {
      const exponent = Math.fround(i / Math.max(half - 1, 1));
      const angle = Math.fround(t * Math.fround(10000 ** -exponent));
      for (let b = 0; b < this.B; b++) {
        rows[b * width + i] = Math.sin(angle);
        rows[b * width + half + i] = Math.cos(angle);
      }
    }
    const { labels } = this.config;
    if (!labels) return;
    const of_label = this.floats(this.weight('of_label.weight'), (1 + labels) * width);
    for (let b = 0; b < this.B; b++) {
      const row = 1 + (y ? y[b] : NOBODY); // the first row is nobody's
      for (let i = 0; i < width; i++) rows[b * width + i] += of_label[row * width + i];
    }
  }

  // Where in a picture, (y x (c p q)), each number of an image, (c (y p) (x q)), is.
  places({ size, C, bordered }) {
    const { channels, image_size, patch: p } = this.config, place = [];
    for (let c = 0; c < channels; c++) {
      for (let y = 0; y < image_size; y++) {
        for (let x = 0; x < image_size; x++) {
          const row = Math.floor(y / p) + bordered, column = Math.floor(x / p) + bordered;
          const channel = (c * p + y % p) * p + x % p;
          place.push((row * (size + 2 * bordered) + column) * C + channel);
        }
      }
    }
    return Int32Array.from(place);
  }
}

// The configuration, with what older files leave out.  Throws what this page cannot run.
function check_config(config) {
  if (!config?.widths) {
    throw new Error('These weights are not those of a U-Net of tutorial_lib (nets/unet.py), and '
      + 'this page runs no other network.');
  }
  if (config.self_conditioning) {
    throw new Error('This page does not run self-conditioning networks. Train one without, or '
      + 'sample with `python -m tutorial_lib sample`.');
  }
  for (const width of [...config.widths, config.widths.at(-1) / config.heads]) {
    if (width % 4) {
      throw new Error(`This page runs four channels at once: widths ${config.widths.join(', ')} `
        + `and the channels of each of ${config.heads} heads must be multiples of 4.`);
    }
  }
  return config;
}
