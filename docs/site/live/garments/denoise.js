'use strict';
// From a noisy x_t and its step to x_0_hat, an estimate of the data behind it; as in
// tutorial_lib/denoise.py, beyond/guidance.py and beyond/editing.py.  A denoiser is a function
// (x_t, t, y) -> x_0_hat.  Images are Float32Arrays, B of them one behind the other.

const clamp = (x) => Math.min(1, Math.max(-1, x));

// The weights a and b with which a target is made: a x_0 + b eps.
function target_weights(schedule, target, t) {
  const signal = schedule.signal(t), noise = schedule.noise(t);
  const [of_x_0, of_x_t] = schedule.mu_tilde_weights(t);
  const weights = {
    eps: [0, 1],
    x_0: [1, 0],
    v: [-noise, signal],
    mu: [of_x_0 + of_x_t * signal, of_x_t * noise],
  };
  if (!Object.hasOwn(weights, target ?? '')) {
    throw new Error(`These weights predict ${target}, which this page does not know. It knows `
      + `${Object.keys(weights).join(', ')}.`);
  }
  return weights[target];
}

// The estimate of x_0 that a network's output implies: two equations, output = a x_0 + b eps and
// x_t = signal x_0 + noise eps, solved for x_0.
function x_0_from(schedule, target, output, x_t, t) {
  if (target === 'x_0') return output;
  const signal = schedule.signal(t), noise = schedule.noise(t);
  const [a, b] = target_weights(schedule, target, t);
  const determinant = a * noise - b * signal;
  return output.map((value, i) => (noise * value - b * x_t[i]) / determinant);
}

function denoiser(network, schedule, { target, clip }) {
  return (x_t, t, y) => {
    const x_0_hat = x_0_from(schedule, target, network.run(x_t, t, y), x_t, t);
    return clip ? x_0_hat.map(clamp) : x_0_hat;
  };
}

// Classifier-free guidance, x_0_hat + w (x_0_hat(y) - x_0_hat): two evaluations in one call of
// twice the batch; for w = 0 or 1 only one.  denoise: not clipped.
function guided(denoise, y, w) {
  const nobody = y.map(() => NOBODY);
  return (x_t, t) => {
    if (w === 0 || w === 1) return denoise(x_t, t, w ? y : nobody).map(clamp);
    const estimates = denoise(concat(x_t, x_t), t, concat(nobody, y));
    const without = estimates.subarray(0, x_t.length), with_label = estimates.subarray(x_t.length);
    return without.map((value, i) => clamp(value + w * (with_label[i] - value)));
  };
}

// What is known put into every estimate: mask known + (1 - mask) x_0_hat.
// known, mask: of one image, the same for all; the mask is 1 where it is known and 0 elsewhere.
function replaced(denoise, known, mask) {
  return (x_t, t) => denoise(x_t, t).map((value, i) => {
    const m = mask[i % mask.length];
    return m * known[i % known.length] + (1 - m) * value;
  });
}

function concat(a, b) {
  const both = new a.constructor(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
