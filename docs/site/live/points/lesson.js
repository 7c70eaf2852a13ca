"use strict";
// Notebook 00 once more, in JavaScript: the schedule, the jump, the network with its backward pass
// written by hand, and the training loop.  Points are kept as x, y, x, y, ... in a Float32Array.

/** Random numbers that a seed repeats. */
class Random {
  constructor(seed) {
    this.state = seed >>> 0;
  }

  /** Uniform in [0, 1).  (mulberry32) */
  uniform() {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let z = this.state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  }

  /** One of 0, 1, ..., count - 1. */
  integer(count) {
    return Math.floor(count * this.uniform());
  }

  /** `count` standard normal numbers.  (Box and Muller) */
  normal(count) {
    const z = new Float32Array(count);
    for (let i = 0; i < count; i += 2) {
      const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
      const angle = 2 * Math.PI * this.uniform();
      z[i] = radius * Math.cos(angle);
      if (i + 1 < count) z[i + 1] = radius * Math.sin(angle);
    }
    return z;
  }
}

/** The noise schedule of notebook 00: tables with entries 0, 1, ..., T. */
class Schedule {
  constructor(T = 50) {
    this.T = T;
    this.beta = Float64Array.from({ length: T + 1 }, (_, t) => (0.9 * t / T) ** 3);
    this.alpha_bar = new Float64Array(T + 1).fill(1);
    for (let t = 1; t <= T; t++) this.alpha_bar[t] = this.alpha_bar[t - 1] * (1 - this.beta[t]);
  }

  signal(t) {
    return Math.sqrt(this.alpha_bar[t]);
  }

  noise(t) {
    return Math.sqrt(1 - this.alpha_bar[t]);
  }
}

/** x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps.  (Eq. 4)  t: one for each point, or one. */
function jump(schedule, x_0, t, eps) {
  const x_t = new Float32Array(x_0.length);
  for (let i = 0; i < x_0.length; i++) {
    const step = typeof t === "number" ? t : t[i >> 1];
    x_t[i] = schedule.signal(step) * x_0[i] + schedule.noise(step) * eps[i];
  }
  return x_t;
}

/** Guesses the noise in points (B, 2) at steps t: 33 features, three layers of 128, two numbers. */
class Network {
  static SIZES = [33, 128, 128, 128, 2];
  static FREQUENCIES = [1, 2, 4, 8, 16];

  /** B: the number of points in a call. */
  constructor(kernel, schedule, B, random) {
    Object.assign(this, { kernel, schedule, B });
    const sizes = Network.SIZES, layers = sizes.length - 1;
    // weights, then biases, of each layer: in one long array, as Adam likes them
    const shapes = [];
    for (let l = 0; l < layers; l++) {
      const inputs = 8 * Math.ceil(sizes[l] / 8); // a few rows of zeros, for the kernel's sake
      shapes.push([inputs, sizes[l + 1]], [1, sizes[l + 1]]);
    }
    const total = shapes.reduce((sum, [rows, columns]) => sum + rows * Kernel.stride(columns), 0);
    const cut = (all) => {
      let used = 0;
      return shapes.map(([rows, columns]) => {
        const from = used;
        used += rows * Kernel.stride(columns);
        return kernel.matrix(rows, columns, all.subarray(from, used));
      });
    };
    this.parameters = kernel.floats(total);
    this.gradient = kernel.floats(total);
    const even = (_, i) => i % 2 === 0, odd = (_, i) => i % 2 === 1;
    const own = cut(this.parameters), slopes = cut(this.gradient);
    [this.W, this.b] = [own.filter(even), own.filter(odd)];
    [this.dW, this.db] = [slopes.filter(even), slopes.filter(odd)];
    this.W_T = this.W.map((W) => kernel.matrix(W.columns, W.rows));
    this.h = sizes.map((size) => kernel.matrix(B, size)); // h[0]: features; h[4]: eps_hat
    this.slope = sizes.map((size) => kernel.matrix(B, size));
    this.dh = sizes.map((size) => kernel.matrix(B, size));
    if (random) this.initialise(random);
  }

  /** As PyTorch does it: uniform within 1 / sqrt(number of inputs). */
  initialise(random) {
    for (let l = 0; l < this.W.length; l++) {
      const inputs = Network.SIZES[l], bound = 1 / Math.sqrt(inputs);
      const fill = ({ columns, stride, data }, rows) => {
        for (let i = 0; i < rows; i++) {
          for (let j = 0; j < columns; j++) {
            data[i * stride + j] = bound * (2 * random.uniform() - 1);
          }
        }
      };
      fill(this.W[l], inputs);
      fill(this.b[l], 1);
    }
  }

  /** z = (x, y, t / T), and sines and cosines of 1, 2, 4, 8 and 16 times z. */
  features(x, t) {
    const { data, stride } = this.h[0];
    for (let i = 0; i < this.B; i++) {
      const step = typeof t === "number" ? t : t[i];
      const z = [x[2 * i], x[2 * i + 1], step / this.schedule.T];
      let at = i * stride;
      for (let d = 0; d < 3; d++) data[at + d] = z[d];
      for (const k of Network.FREQUENCIES) {
        for (let d = 0; d < 3; d++) {
          data[at + 3 + d] = Math.sin(k * z[d]);
          data[at + 6 + d] = Math.cos(k * z[d]);
        }
        at += 6;
      }
    }
  }

  /** eps_hat for B points: h[l + 1] = silu(h[l] W[l] + b[l]), the last layer without silu. */
  forward(x, t) {
    this.features(x, t);
    for (let l = 0; l < this.W.length; l++) {
      const z = this.h[l + 1];
      for (let i = 0; i < this.B; i++) z.data.set(this.b[l].data, i * z.stride);
      this.kernel.product(this.h[l], this.W[l], z);
      if (l < this.W.length - 1) this.kernel.silu(z.data, this.slope[l + 1].data);
    }
    return this.h.at(-1);
  }

  /** The loss, mean squared error of eps_hat; leaves its gradient in `gradient`. */
  backward(eps) {
    const last = this.W.length - 1;
    const eps_hat = this.h.at(-1), d_eps_hat = this.dh.at(-1);
    this.gradient.fill(0);
    let loss = 0;
    for (let i = 0; i < 2 * this.B; i++) {
      const at = (i >> 1) * eps_hat.stride + (i & 1);
      const error = eps_hat.data[at] - eps[i];
      loss += error * error / (2 * this.B);
      d_eps_hat.data[at] = 2 * error / (2 * this.B);
    }
    for (let l = last; l >= 0; l--) {
      const dz = this.dh[l + 1]; // the loss's slope for z = h W + b
      if (l < last) this.kernel.times(dz.data, this.slope[l + 1].data); // through silu
      this.kernel.product(this.h[l], dz, this.dW[l], { transposed: true }); // dW = h^T dz
      this.sum_rows(dz, this.db[l].data); // db: the sum over the points
      if (l > 0) {
        this.dh[l].data.fill(0);
        this.kernel.product(dz, this.transpose(l), this.dh[l]); // dh = dz W^T
      }
    }
    return loss;
  }

  sum_rows({ rows, columns, stride, data }, sum) {
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) sum[j] += data[i * stride + j];
    }
  }

  transpose(l) {
    const { rows, columns, stride, data } = this.W[l], W_T = this.W_T[l];
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) W_T.data[j * W_T.stride + i] = data[i * stride + j];
    }
    return W_T;
  }

  /** eps_hat of any number of points at one step t, B at a time. */
  guess(x, t) {
    const eps_hat = new Float32Array(x.length), part = new Float32Array(2 * this.B);
    for (let from = 0; from < x.length; from += 2 * this.B) {
      part.set(x.subarray(from, from + 2 * this.B));
      const { data, stride } = this.forward(part, t);
      const count = Math.min(2 * this.B, x.length - from);
      for (let i = 0; i < count; i++) eps_hat[from + i] = data[(i >> 1) * stride + (i & 1)];
    }
    return eps_hat;
  }
}

/** Adam (Kingma and Ba 2015), with PyTorch's defaults. */
class Adam {
  constructor({ parameters, gradient }) {
    Object.assign(this, { parameters, gradient, k: 0 });
    this.m = new Float32Array(parameters.length);
    this.v = new Float32Array(parameters.length);
  }

  step(rate) {
    const { parameters, gradient, m, v } = this;
    this.k += 1;
    const size = rate / (1 - 0.9 ** this.k), scale = 1 / Math.sqrt(1 - 0.999 ** this.k);
    for (let i = 0; i < parameters.length; i++) {
      const g = gradient[i];
      m[i] = 0.9 * m[i] + 0.1 * g;
      v[i] = 0.999 * v[i] + 0.001 * g * g;
      parameters[i] -= size * m[i] / (scale * Math.sqrt(v[i]) + 1e-8);
    }
  }
}

/** Algorithm 1: data, a step, noise; jump, ask, improve.  One call makes one step. */
class Training {
  static RATE = 3e-3; // falls to 0 in a line

  /** points: the data, of which each batch draws some, with a trace of blur. */
  constructor({ points, steps = 3000, B = 256, blur = 0.01, seed = 1, plain = false }) {
    Object.assign(this, { points, steps, B, blur, k: 0 });
    this.random = new Random(seed);
    this.schedule = new Schedule();
    this.network = new Network(new Kernel({ plain }), this.schedule, B, this.random);
    this.adam = new Adam(this.network);
  }

  batch() {
    const { B, random, points } = this;
    const x_0 = random.normal(2 * B);
    const t = new Uint8Array(B);
    for (let i = 0; i < B; i++) {
      const which = random.integer(points.length / 2);
      for (const d of [0, 1]) x_0[2 * i + d] = points[2 * which + d] + this.blur * x_0[2 * i + d];
      t[i] = 1 + random.integer(this.schedule.T);
    }
    return [x_0, t, random.normal(2 * B)];
  }

  step([x_0, t, eps] = this.batch()) {
    this.network.forward(jump(this.schedule, x_0, t, eps), t);
    const loss = this.network.backward(eps);
    this.adam.step(Training.RATE * (1 - this.k / this.steps));
    this.k += 1;
    return loss;
  }
}
