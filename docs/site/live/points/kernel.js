"use strict";
// The three loops that take all the time, twice: in plain JavaScript, to be read, and as
// WebAssembly, which does four numbers at a time.  No compiler is needed: `assemble` writes the
// WebAssembly down by itself.  Where a browser has none, the plain loops do the work.

/** Matrices of float32, all in one memory, and what is done to them. */
class Kernel {
  /** plain: do without WebAssembly.  bytes: how much memory there is. */
  constructor({ plain = false, bytes = 4 << 20 } = {}) {
    this.used = 0;
    try {
      if (plain) throw new Error("not wanted");
      const memory = new WebAssembly.Memory({ initial: bytes >> 16, maximum: bytes >> 16 });
      const code = new WebAssembly.Module(assemble());
      this.code = new WebAssembly.Instance(code, { page: { memory } }).exports;
      this.buffer = memory.buffer;
    } catch {
      this.code = null;
      this.buffer = new ArrayBuffer(bytes);
    }
  }

  /** `count` zeros. */
  floats(count) {
    const start = this.used;
    this.used += 16 * Math.ceil(count / 4); // a vector of four begins at a multiple of 16 bytes
    return new Float32Array(this.buffer, start, count);
  }

  /** A matrix of zeros.  Its rows lie `stride` numbers apart: a little more than they need, so
   *  that they do not all compete for the same lines of the processor's cache. */
  matrix(rows, columns, data = null) {
    const stride = Kernel.stride(columns);
    return { rows, columns, stride, data: data ?? this.floats(rows * stride) };
  }

  static stride(columns) {
    return 8 * Math.ceil(columns / 8) + 8;
  }

  /** C += A B, or A^T B.  A's rows (as used) come in fours, B's columns in eights: pad them. */
  product(A, B, C, { transposed = false, rows = transposed ? A.columns : A.rows } = {}) {
    const [down, right] = transposed ? [1, A.stride] : [A.stride, 1];
    const inner = B.rows;
    const M = 4 * Math.ceil(rows / 4), N = 8 * Math.ceil(B.columns / 8);
    if (this.code) {
      const [a, b, c] = [A, B, C].map((matrix) => matrix.data.byteOffset);
      const [b_down, c_down] = [4 * B.stride, 4 * C.stride]; // in bytes
      this.code.product(a, 4 * down, 4 * right, b, b_down, c, c_down, M, N, inner);
      return;
    }
    for (let m = 0; m < M; m++) {
      for (let k = 0; k < inner; k++) {
        const a = A.data[m * down + k * right];
        const b = k * B.stride, c = m * C.stride;
        for (let n = 0; n < N; n++) C.data[c + n] += a * B.data[b + n];
      }
    }
  }

  /** z becomes silu(z) = z / (1 + e^-z), and `slope` its derivative there. */
  silu(z, slope) {
    if (this.code) {
      this.code.silu(z.byteOffset, slope.byteOffset, z.byteOffset + z.byteLength);
      return;
    }
    for (let i = 0; i < z.length; i++) {
      const s = 1 / (1 + Math.exp(-z[i]));
      slope[i] = s * (1 + z[i] * (1 - s));
      z[i] *= s;
    }
  }

  /** a becomes a times b, number by number. */
  times(a, b) {
    if (this.code) {
      this.code.times(a.byteOffset, b.byteOffset, a.byteOffset + a.byteLength);
      return;
    }
    for (let i = 0; i < a.length; i++) a[i] *= b[i];
  }
}

/** The bytes of a WebAssembly module with the functions product, silu and times. */
function assemble() {
  const I32 = 0x7f, V128 = 0x7b; // an address or a count; four floats
  const number = (n) => { // LEB128: seven bits a byte
    const bytes = [];
    do bytes.push((n & 127) | (n > 127 ? 128 : 0)); while ((n >>>= 7));
    return bytes;
  };
  const list = (items) => [...number(items.length), ...items.flat()];
  const sized = (bytes) => [...number(bytes.length), ...bytes];
  const op = (...code) => (...operands) => [...operands.flat(), ...code];
  const simd = (code) => op(0xfd, ...number(code));

  // instructions, written as functions of what they take from the stack
  const plus = op(0x6a), times = op(0x6c), below = op(0x49);
  const load = (address, offset = 0) => [...address, 0xfd, 0, 2, ...number(offset)];
  const load_four_times = (address) => [...address, 0xfd, 9, 2, 0];
  const store = (address, value, offset = 0) =>
    [...address, ...value, 0xfd, 11, 2, ...number(offset)];
  const add = simd(0xe4), subtract = simd(0xe5), multiply = simd(0xe6), divide = simd(0xe7);
  const smaller = simd(0xe8), larger = simd(0xe9), negative = simd(0xe1), nearest = simd(0x6a);
  const to_integers = simd(0xf8), add_integers = simd(0xae), shift_left = simd(0xab);
  const integer = (n) => { // signed LEB128
    const bytes = [];
    for (; n < -64 || n > 63; n >>= 7) bytes.push((n & 127) | 128);
    return [0x41, ...bytes, n & 127];
  };
  const four = (bytes) => [0xfd, 12, ...bytes, ...bytes, ...bytes, ...bytes];
  const floats = (x) => four(new Uint8Array(new Float32Array([x]).buffer));
  const integers = (n) => four(new Uint8Array(new Int32Array([n]).buffer));

  /** A function: `write` gets its variables by name and returns its instructions. */
  const written = (parameters, counts, vectors, write) => {
    const names = [...parameters, ...counts, ...vectors];
    const get = (name) => [0x20, ...number(names.indexOf(name))];
    const set = (name, value) => [...value, 0x21, ...number(names.indexOf(name))];
    const step = (name, by) => set(name, plus(get(name), by));
    const repeat = (body, condition) => [0x03, 0x40, ...body.flat(), ...condition, 0x0d, 0, 0x0b];
    const locals = list([[...number(counts.length), I32], [...number(vectors.length), V128]]);
    return sized([...locals, ...write({ get, set, step, repeat }).flat(), 0x0b]);
  };

  const QUAD = [0, 1, 2, 3]; // a block of C: four rows of two vectors, kept in registers
  const product = written(
    ["A", "down", "right", "B", "b_down", "C", "c_down", "M", "N", "K"],
    ["m", "n", "k", "b", "c", "row", ...QUAD.map((i) => `a${i}`)],
    ["b0", "b1", "a", ...QUAD.flatMap((i) => [`c${i}0`, `c${i}1`])],
    ({ get, set, step, repeat }) => {
      const each_row = (visit) => [ // of the block, with `c` at its beginning
        set("c", get("row")),
        ...QUAD.map((i) => [...visit(i).flat(), ...step("c", get("c_down"))]),
      ];
      const inner = repeat([
        set("b0", load(get("b"))),
        set("b1", load(get("b"), 16)),
        ...QUAD.flatMap((i) => [
          set("a", load_four_times(get(`a${i}`))),
          set(`c${i}0`, add(get(`c${i}0`), multiply(get("a"), get("b0")))),
          set(`c${i}1`, add(get(`c${i}1`), multiply(get("a"), get("b1")))),
          step(`a${i}`, get("right")),
        ]),
        step("b", get("b_down")),
        step("k", integer(1)),
      ], below(get("k"), get("K")));
      const row_of_A = (i) => plus(get("A"), times(plus(get("m"), integer(i)), get("down")));
      const rows = repeat([
        ...QUAD.map((i) => set(`a${i}`, row_of_A(i))),
        set("b", get("B")),
        set("k", integer(0)),
        ...each_row((i) => [set(`c${i}0`, load(get("c"))), set(`c${i}1`, load(get("c"), 16))]),
        inner,
        ...each_row((i) => [store(get("c"), get(`c${i}0`)), store(get("c"), get(`c${i}1`), 16)]),
        set("row", get("c")),
        step("m", integer(4)),
      ], below(get("m"), get("M")));
      return [repeat([
        set("row", get("C")),
        set("m", integer(0)),
        rows,
        step("B", integer(32)),
        step("C", integer(32)),
        step("n", integer(8)),
      ], below(get("n"), get("N")))];
    },
  );

  // e^x = 2^n e^r with r = x - n log 2, |r| < 0.35; of e^r the series (as in Cephes' expf)
  const series = [1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2,
    1.6666665459e-1, 5.0000001201e-1, 1, 1];
  const silu = written(["z", "slope", "end"], [], ["x", "n", "r", "s"], (write) => {
    const { get, set, step, repeat } = write;
    const exponential = [
      set("n", nearest(multiply(get("r"), floats(Math.LOG2E)))),
      set("r", subtract(get("r"), multiply(get("n"), floats(0.693359375)))),
      set("r", subtract(get("r"), multiply(get("n"), floats(-2.12194440e-4)))),
      set("s", series.map(floats).reduce((sum, term) => add(multiply(sum, get("r")), term))),
      set("n", shift_left(add_integers(to_integers(get("n")), integers(127)), integer(23))),
      set("r", multiply(get("s"), get("n"))),
    ];
    const one = floats(1);
    const slope = add(one, multiply(get("x"), subtract(one, get("s")))); // over s
    return [repeat([
      set("x", load(get("z"))),
      set("r", smaller(larger(negative(get("x")), floats(-87)), floats(87))),
      ...exponential,
      set("s", divide(one, add(one, get("r")))),
      store(get("slope"), multiply(get("s"), slope)),
      store(get("z"), multiply(get("x"), get("s"))),
      step("slope", integer(16)),
      step("z", integer(16)),
    ], below(get("z"), get("end")))];
  });

  const elementwise = written(["a", "b", "end"], [], ["x"], ({ get, step, repeat }) => [repeat([
    store(get("a"), multiply(load(get("a")), load(get("b")))),
    step("a", integer(16)),
    step("b", integer(16)),
  ], below(get("a"), get("end")))]);

  // the module: types, memory, which function has which type and name, and their code
  const text = (word) => list([...word].map((letter) => [letter.charCodeAt(0)]));
  const type = (count) => [0x60, ...list(Array(count).fill([I32])), 0];
  const pages = [1, ...number(0), ...number(65536)];
  const sections = [
    [1, list([type(10), type(3)])],
    [2, list([[...text("page"), ...text("memory"), 2, ...pages]])],
    [3, list([[0], [1], [1]])],
    [7, list([[...text("product"), 0, 0], [...text("silu"), 0, 1], [...text("times"), 0, 2]])],
    [10, list([product, silu, elementwise])],
  ];
  const head = [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
  return new Uint8Array([...head, ...sections.flatMap(([id, body]) => [id, ...sized(body)])]);
}
