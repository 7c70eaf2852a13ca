'use strict';
// Randomness from a seed, the same as torch's on a CPU: torch.Generator().manual_seed(seed).

class Generator {
  constructor(seed) { // a whole number in 0..2^32 - 1
    this.state = new Uint32Array(624); // the Mersenne Twister (Matsumoto & Nishimura 1998)
    this.state[0] = seed;
    for (let i = 1; i < 624; i++) {
      const before = this.state[i - 1];
      this.state[i] = Math.imul(1812433253, before ^ (before >>> 30)) + i;
    }
    this.used = 624;
  }

  random() { // a whole number in 0..2^32 - 1
    if (this.used === 624) this.twist();
    let y = this.state[this.used++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  twist() {
    const { state } = this;
    for (let k = 0; k < 624; k++) {
      const y = (state[k] & 0x80000000) | (state[(k + 1) % 624] & 0x7fffffff);
      state[k] = state[(k + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.used = 0;
  }

  // torch.randint(high, (n,)).
  randint(high, n) {
    return Int32Array.from({ length: n }, () => this.random() % high);
  }

  // torch.randn(n), for n of at least 16: n standard normal numbers.
  randn(n) {
    if (n < 16) throw new Error(`randn needs n of at least 16, got ${n}`);
    const uniform = () => (this.random() & 0xffffff) / 2 ** 24; // in [0, 1)
    const u = Float32Array.from({ length: n }, uniform);
    for (let i = 0; i + 16 <= n; i += 16) box_muller(u, i);
    if (n % 16) { // the last sixteen are drawn anew
      for (let i = n - 16; i < n; i++) u[i] = uniform();
      box_muller(u, n - 16);
    }
    return u;
  }
}

// Sixteen uniform numbers become sixteen normal ones, in place: eight radii and eight angles.
function box_muller(u, start) {
  for (let i = start; i < start + 8; i++) {
    const radius = Math.sqrt(-2 * Math.log(1 - u[i]));
    const angle = 2 * Math.PI * u[i + 8];
    u[i] = radius * Math.cos(angle);
    u[i + 8] = radius * Math.sin(angle);
  }
}
