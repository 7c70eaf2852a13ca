'use strict';
// Reads what tutorial_lib/checkpoint.py writes: named tensors and a configuration, as safetensors.

// bytes: a Uint8Array.  Returns {configuration, tensors}: the averaged weights ("ema."), as
// name -> {shape, data: Float32Array}.
function read_checkpoint(bytes) {
  const { header, start } = read_header(bytes);
  const told = header.__metadata__?.tutorial_lib;
  if (!told) {
    throw new Error('This file has no configuration of tutorial_lib. Take weights that '
      + '`python -m tutorial_lib train` wrote.');
  }
  const tensors = {};
  for (const [name, entry] of Object.entries(header)) {
    if (!name.startsWith('ema.')) continue; // what is not averaged is for training only
    const { dtype, shape, data_offsets: [from, to] } = entry;
    if (!Object.hasOwn(NUMBERS, dtype)) {
      throw new Error(`${name} is stored as ${dtype}. This page reads `
        + `${Object.keys(NUMBERS).join(', ')}: store the weights in one of these.`);
    }
    const piece = bytes.slice(start + from, start + to); // a copy, so that it is aligned
    tensors[name.slice(4)] = { shape, data: NUMBERS[dtype](piece.buffer) };
  }
  return { configuration: JSON.parse(told), tensors };
}

// The header says where each tensor is, counted from its own end, `start`.
function read_header(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = bytes.length < 8 ? Infinity : Number(view.getBigUint64(0, true));
  if (!(8 + length <= bytes.length)) {
    throw new Error('This is no safetensors file, or only a part of one. Load the page again; if '
      + 'that does not help, build it anew with `python tools/live.py`.');
  }
  const text = new TextDecoder().decode(bytes.subarray(8, 8 + length));
  return { header: JSON.parse(text), start: 8 + length };
}

const NUMBERS = {
  F32: (buffer) => new Float32Array(buffer),
  F16: (buffer) => { // a table of all 65,536 values is quicker than arithmetic
    HALVES ??= Float32Array.from({ length: 65536 }, (_, bits) => half(bits));
    const halves = new Uint16Array(buffer), floats = new Float32Array(halves.length);
    for (let i = 0; i < floats.length; i++) floats[i] = HALVES[halves[i]];
    return floats;
  },
  BF16: (buffer) => { // the first 16 bits of a float32
    const bits = Uint32Array.from(new Uint16Array(buffer), (high) => high << 16);
    return new Float32Array(bits.buffer);
  },
};
let HALVES = null;

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
