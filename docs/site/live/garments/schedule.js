'use strict';
// Noise schedules, as in tutorial_lib/schedule.py: tables of length T + 1, and alpha_bar[0] is 1.

class NoiseSchedule {
  constructor(beta) { // beta_1 ... beta_T
    this.beta = [0, ...beta];
    this.T = beta.length;
    this.alpha_bar = [1];
    for (let t = 1; t <= this.T; t++) {
      this.alpha_bar.push(this.alpha_bar[t - 1] * (1 - this.beta[t]));
    }
  }

  signal(t) { return Math.sqrt(this.alpha_bar[t]); }
  noise(t) { return Math.sqrt(1 - this.alpha_bar[t]); }

  // The variance of the posterior (Eq. 7).
  beta_tilde(t) {
    return (1 - this.alpha_bar[t - 1]) / (1 - this.alpha_bar[t]) * this.beta[t];
  }

  // The weights of x_0 and x_t in the posterior mean mu_tilde (Eq. 7).
  mu_tilde_weights(t) {
    const before = this.alpha_bar[t - 1], now = this.alpha_bar[t];
    const of_x_0 = Math.sqrt(before) * this.beta[t] / (1 - now);
    const of_x_t = Math.sqrt(1 - this.beta[t]) * (1 - before) / (1 - now);
    return [of_x_0, of_x_t];
  }

  // The schedule that visits only the steps tau of this one.
  strided(tau) {
    const kept = tau.map((t) => this.alpha_bar[t]);
    return new NoiseSchedule(kept.slice(1).map((now, i) => 1 - now / kept[i]));
  }
}

// n numbers from a to b, evenly, computed from the nearer end (as torch does).
function linspace(a, b, n) {
  const step = n > 1 ? (b - a) / (n - 1) : 0;
  return Array.from({ length: n }, (_, i) => (i < n / 2 ? a + step * i : b - step * (n - 1 - i)));
}

// To the nearest whole number; halves go to the even one (as torch does).
function round(x) {
  const below = Math.floor(x), rest = x - below;
  if (rest === 0.5) return below + (below % 2);
  return rest < 0.5 ? below : below + 1;
}

// S of the steps 1..T, spread evenly and ending at T, with 0 in front.
function even_tau(T, S) {
  check_steps(T, S);
  return linspace(0, T, S + 1).map(round);
}

// S of the steps 1..T, spaced as evenly in a root of noise / signal as they can be, from where that
// is `largest` (Karras et al. 2022, Eq. 5; beyond/solvers.py).
function karras_tau(schedule, S, { root = 4, largest = 120 } = {}) {
  const { T } = schedule;
  check_steps(T, S);
  const ratio = [0]; // noise / signal at t
  for (let t = 1; t <= T; t++) ratio.push(schedule.noise(t) / schedule.signal(t));
  const high = Math.min(ratio[T], largest), low = Math.min(ratio[1], largest);
  const roots = linspace(high ** (1 / root), low ** (1 / root), S).reverse();
  const tau = [0];
  let t = 1, shift = -Infinity;
  roots.forEach((value, k) => {
    const wanted = value ** root;
    while (t < T && Math.sqrt(ratio[t] * ratio[t + 1]) < wanted) t++; // the nearest, in a logarithm
    shift = Math.max(shift, t - (k + 1)); // no step twice,
    tau.push(Math.min(shift + k + 1, T - S + k + 1)); // and room for later ones
  });
  return tau;
}

function check_steps(T, S) {
  if (!(Number.isInteger(S) && S >= 1 && S <= T)) {
    throw new Error(`The number of steps must be a whole number from 1 to ${T}, got ${S}.`);
  }
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

// The schedules with a name, each a list of beta_1 ... beta_T.
const SCHEDULES = {
  constant: (T) => Array(T).fill(0.01),
  linear: (T) => linspace(1e-4, 0.02, T),
  quadratic: (T) => linspace(1e-4 ** 0.5, 0.02 ** 0.5, T).map((root) => root ** 2),
  sigmoid: (T) => linspace(-6, 6, T).map((x) => 1e-4 + (0.02 - 1e-4) * sigmoid(x)),
  geometric: (T) => linspace(Math.log(1e-4), Math.log(0.02), T).map(Math.exp),
  cosine: (T) => { // Nichol & Dhariwal 2021, Eq. 17
    const s = 0.008;
    const f = (t) => Math.cos((t / T + s) / (1 + s) * Math.PI / 2) ** 2;
    return Array.from({ length: T }, (_, i) => Math.min(1 - f(i + 1) / f(i), 0.999));
  },
};

// The schedule that weights were trained with, by what their checkpoint says.
function schedule_of(configuration) {
  if (configuration.beta) return new NoiseSchedule(configuration.beta);
  const { schedule, T } = configuration.train ?? {};
  if (!Object.hasOwn(SCHEDULES, schedule ?? '') || !T) {
    throw new Error(`These weights have the noise schedule ${schedule}, T = ${T}, which this page `
      + `does not know. It knows ${Object.keys(SCHEDULES).join(', ')}.`);
  }
  return new NoiseSchedule(SCHEDULES[schedule](T));
}
