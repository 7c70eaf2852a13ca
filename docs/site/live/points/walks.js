"use strict";
// From noise to data.  Each walk takes `guess(x, t)`, which answers eps_hat, and yields [t, x_t]
// for the steps that it visits, tau, from T down to 0.

/** S of the steps 1..T, evenly spaced, with 0 in front; halves are rounded to even. */
function even_tau(T, S) {
  return Array.from({ length: S + 1 }, (_, i) => {
    const exact = (i * T) / S, near = Math.round(exact);
    return near - exact === 0.5 && near % 2 ? near - 1 : near;
  });
}

/** Algorithm 2: take a part of the guessed noise away, undo the shrinking, add fresh noise. */
function* ddpm(guess, schedule, x, tau, random) {
  const { alpha_bar } = schedule;
  yield [tau.at(-1), x];
  for (let i = tau.length - 1; i > 0; i--) {
    const t = tau[i], alpha = alpha_bar[t] / alpha_bar[tau[i - 1]], beta = 1 - alpha;
    const eps_hat = guess(x, t), z = random.normal(x.length);
    const added = i > 1 ? Math.sqrt(beta) : 0; // the last step adds none
    x = x.map((x_i, j) => {
      const mean = (x_i - beta / schedule.noise(t) * eps_hat[j]) / Math.sqrt(alpha);
      return mean + added * z[j];
    });
    yield [tau[i - 1], x];
  }
}

/** DDIM: keep the guessed noise, and mix it anew with the guessed data. */
function* ddim(guess, schedule, x, tau) {
  yield [tau.at(-1), x];
  for (let i = tau.length - 1; i > 0; i--) {
    const [t, s] = [tau[i], tau[i - 1]];
    const eps_hat = guess(x, t), x_0_hat = guess_of_data(schedule, x, t, eps_hat);
    x = x_0_hat.map((x_0_i, j) => schedule.signal(s) * x_0_i + schedule.noise(s) * eps_hat[j]);
    yield [s, x];
  }
}

/** DPM-Solver++(2M): DDIM that looks ahead along its last two guesses of the data. */
function* dpm_solver(guess, schedule, x, tau) {
  const lambda = tau.map((t) => Math.log(schedule.signal(t) / schedule.noise(t)));
  let before = null;
  yield [tau.at(-1), x];
  for (let i = tau.length - 1; i > 0; i--) {
    const [t, s] = [tau[i], tau[i - 1]];
    const x_0_hat = guess_of_data(schedule, x, t, guess(x, t));
    let ahead = x_0_hat;
    if (before && i > 1) {
      const ratio = (lambda[i - 1] - lambda[i]) / (lambda[i] - lambda[i + 1]) / 2;
      ahead = x_0_hat.map((x_0_i, j) => x_0_i + ratio * (x_0_i - before[j]));
    }
    const shrink = schedule.noise(s) / schedule.noise(t);
    const grow = schedule.signal(s) - shrink * schedule.signal(t);
    x = x.map((x_i, j) => shrink * x_i + grow * ahead[j]);
    before = x_0_hat;
    yield [s, x];
  }
}

/** x_0_hat: the jump, solved for x_0. */
function guess_of_data(schedule, x, t, eps_hat) {
  return x.map((x_i, j) => (x_i - schedule.noise(t) * eps_hat[j]) / schedule.signal(t));
}

/** The score that a guess of the noise implies: -eps_hat / sqrt(1 - alpha_bar). */
function score_from(schedule, t, eps_hat) {
  return eps_hat.map((eps_i) => -eps_i / schedule.noise(t));
}
