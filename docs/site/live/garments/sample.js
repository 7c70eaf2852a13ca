'use strict';
// From noise to images, as in tutorial_lib/sample.py, beyond/solvers.py, beyond/distillation.py and
// beyond/editing.py.  Samplers are generators of frames {t, x, x_0_hat}: the step reached, the
// state x_t there, and the estimate of x_0 made on the way to it (of the noise itself: zeros).
// Arguments: a denoiser, a schedule, the noise x_T, and {steps, generator}.

const first_frame = (t, x) => ({ t, x, x_0_hat: new Float32Array(x.length) });

// Ancestral sampling (Algorithm 2), with the variance beta_tilde.
function* ddpm(denoise, schedule, x_T, { steps, generator }) {
  const tau = even_tau(schedule.T, steps);
  const visited = schedule.strided(tau);
  let x = x_T;
  yield first_frame(schedule.T, x);
  for (let i = steps; i > 0; i--) {
    const x_0_hat = denoise(x, tau[i]);
    const [of_x_0, of_x_t] = visited.mu_tilde_weights(i);
    x = x.map((value, k) => of_x_0 * x_0_hat[k] + of_x_t * value);
    if (i > 1) { // the last step shows its mean
      const sigma = Math.sqrt(visited.beta_tilde(i)), z = generator.randn(x.length);
      x = x.map((value, k) => value + sigma * z[k]);
    }
    yield { t: tau[i - 1], x, x_0_hat };
  }
}

// The deterministic walk (Song, Meng & Ermon 2021, Eq. 12 with eta = 0).
function* ddim(denoise, schedule, x_T, { steps }) {
  const tau = even_tau(schedule.T, steps);
  const signal = tau.map((t) => schedule.signal(t)), noise = tau.map((t) => schedule.noise(t));
  let x = x_T;
  yield first_frame(schedule.T, x);
  for (let i = steps; i > 0; i--) {
    const x_0_hat = denoise(x, tau[i]);
    x = x.map((value, k) => {
      const eps_hat = (value - signal[i] * x_0_hat[k]) / noise[i];
      return signal[i - 1] * x_0_hat[k] + noise[i - 1] * eps_hat;
    });
    yield { t: tau[i - 1], x, x_0_hat };
  }
}

// DPM-Solver++(2M): ddim that looks ahead along its estimates (Lu et al. 2022, Algorithm 2).
function* dpm_solver(denoise, schedule, x_T, { steps }) {
  const tau = karras_tau(schedule, steps);
  const signal = tau.map((t) => schedule.signal(t)), noise = tau.map((t) => schedule.noise(t));
  const lambda = tau.map((_, i) => Math.log(signal[i] / noise[i]));
  let x = x_T, x_0_hat_before = null;
  yield first_frame(tau[steps], x);
  for (let i = steps; i > 0; i--) {
    const x_0_hat = denoise(x, tau[i]);
    let ahead = x_0_hat;
    if (x_0_hat_before && i > 1) {
      const step = lambda[i - 1] - lambda[i], step_before = lambda[i] - lambda[i + 1];
      const before = x_0_hat_before, share = step / step_before / 2;
      ahead = x_0_hat.map((value, k) => value + share * (value - before[k]));
    }
    const shrink = noise[i - 1] / noise[i], gain = signal[i - 1] - shrink * signal[i];
    x = x.map((value, k) => shrink * value + gain * ahead[k]);
    x_0_hat_before = x_0_hat;
    yield { t: tau[i - 1], x, x_0_hat };
  }
}

// With a distilled network: answer, add fresh noise, answer again (Song et al. 2023, Algorithm 1).
function* multistep(student, schedule, x_T, { steps, generator }) {
  const tau = even_tau(schedule.T, steps);
  let x = x_T;
  yield first_frame(schedule.T, x);
  for (let i = steps; i > 0; i--) {
    const x_0 = student(x, tau[i]);
    x = i > 1 ? q_sample(schedule, x_0, tau[i - 1], generator.randn(x.length)) : x_0;
    yield { t: tau[i - 1], x, x_0_hat: x_0 };
  }
}

const SAMPLERS = { 'dpm++': dpm_solver, ddim, ddpm, multistep };

// The forward process in one jump: x_t = signal x_0 + noise eps (Eq. 4).
function q_sample(schedule, x_0, t, eps) {
  const signal = schedule.signal(t), noise = schedule.noise(t);
  return x_0.map((value, k) => signal * value + noise * eps[k]);
}

// SDEdit: noise a sketch to step t, and walk back from there.  x_0: B images.
// With ddpm this is `editing.redrawn`; any other sampler walks back over the same t steps.
function redrawn(sampler, denoise, schedule, x_0, t, options) {
  const x_t = q_sample(schedule, x_0, t, options.generator.randn(x_0.length));
  const rest = schedule.strided(Array.from({ length: t + 1 }, (_, s) => s));
  return sampler(denoise, rest, x_t, options);
}

// Spherical interpolation between two noises: the result is as long as they are.
function slerp(a, b, share) {
  const dot = (p, q) => p.reduce((total, value, k) => total + value * q[k], 0);
  const theta = Math.acos(Math.min(1, dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))));
  if (theta < 1e-4) return a.map((value, k) => (1 - share) * value + share * b[k]);
  const of_a = Math.sin((1 - share) * theta) / Math.sin(theta);
  const of_b = Math.sin(share * theta) / Math.sin(theta);
  return a.map((value, k) => of_a * value + of_b * b[k]);
}
