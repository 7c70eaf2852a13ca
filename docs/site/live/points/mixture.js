"use strict";
// A mixture of round Gaussians, of which everything is known exactly (`toys.Mixture`; notebook 09).

class Mixture {
  /** weights: K numbers; they are divided by their sum.  means: K pairs.  variance: of each. */
  constructor(weights, means, variance) {
    const sum = weights.reduce((a, b) => a + b);
    Object.assign(this, { weights: weights.map((w) => w / sum), means, variance });
  }

  /** The mixture that x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps has. */
  noised(alpha_bar) {
    const signal = Math.sqrt(alpha_bar);
    const means = this.means.map(([x, y]) => [signal * x, signal * y]);
    return new Mixture(this.weights, means, alpha_bar * this.variance + 1 - alpha_bar);
  }

  /** log w_k + log N(x; mu_k, variance), for each bump k. */
  log_joint(x, y) {
    const log_norm = Math.log(2 * Math.PI * this.variance);
    return this.means.map(([a, b], k) =>
      Math.log(this.weights[k]) - ((x - a) ** 2 + (y - b) ** 2) / (2 * this.variance) - log_norm);
  }

  log_density(x, y) {
    const terms = this.log_joint(x, y), top = Math.max(...terms);
    return top + Math.log(terms.reduce((sum, term) => sum + Math.exp(term - top), 0));
  }

  /** Towards each mean, (mu_k - x) / variance, weighted by how probable its bump is at x. */
  score(x, y) {
    const terms = this.log_joint(x, y), top = Math.max(...terms);
    let sum = 0, to_x = 0, to_y = 0;
    for (const [k, [a, b]] of this.means.entries()) {
      const probable = Math.exp(terms[k] - top);
      sum += probable;
      to_x += probable * (a - x);
      to_y += probable * (b - y);
    }
    return [to_x / sum / this.variance, to_y / sum / this.variance];
  }

  /** A point for u, uniform, which chooses the bump, and z, two standard normal numbers. */
  point(u, z) {
    let k = 0;
    while (k < this.means.length - 1 && (u -= this.weights[k]) >= 0) k += 1;
    return this.means[k].map((mean, d) => mean + Math.sqrt(this.variance) * z[d]);
  }

  /** One step of Langevin from x (in place): uphill by h / 2 times the score, and noise. */
  langevin(x, h, random) {
    const z = random.normal(x.length);
    for (let i = 0; i < x.length; i += 2) {
      const [to_x, to_y] = this.score(x[i], x[i + 1]);
      x[i] += h / 2 * to_x + Math.sqrt(h) * z[i];
      x[i + 1] += h / 2 * to_y + Math.sqrt(h) * z[i + 1];
    }
  }
}
