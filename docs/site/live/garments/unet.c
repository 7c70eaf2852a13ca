// The layers of tutorial_lib/nets/blocks.py as kernels for WebAssembly's SIMD, which takes four
// numbers at once.  No libc, no imports.  Numbers are float32.  Pictures are channels-last,
// [B][H][W][C], and every C is a multiple of 4, unless said otherwise.  Before a 3x3 convolution
// they have a border of one pixel, which is zero: [B][H + 2][W + 2][C], "bordered".  Whoever calls
// lays out the memory (unet.js).
#include <wasm_simd128.h>

#define EXPORT(name) __attribute__((export_name(#name)))
#define ROWS 4  // positions that a convolution works on at once: 8 sums of 4 numbers in registers
typedef v128_t V;
typedef float F;

static inline V load(const F *p) { return wasm_v128_load(p); }
static inline void store(F *p, V v) { wasm_v128_store(p, v); }
static inline V all(F x) { return wasm_f32x4_splat(x); }
static inline V add(V a, V b) { return wasm_f32x4_add(a, b); }
static inline V sub(V a, V b) { return wasm_f32x4_sub(a, b); }
static inline V mul(V a, V b) { return wasm_f32x4_mul(a, b); }
static inline V mul_add(V a, V b, V c) { return add(c, mul(a, b)); }
static inline F sum(V v) {
  return wasm_f32x4_extract_lane(v, 0) + wasm_f32x4_extract_lane(v, 1)
       + wasm_f32x4_extract_lane(v, 2) + wasm_f32x4_extract_lane(v, 3);
}

// Where free memory begins.
extern unsigned char __heap_base;
EXPORT(heap) int heap(void) { return (int)&__heap_base; }

// e^x = 2^n e^r with a whole n and |r| <= log(2) / 2, where a polynomial of degree 7 suffices
// (the constants are those of Cephes, by S. Moshier).
static inline V exp4(V x) {
  x = wasm_f32x4_max(wasm_f32x4_min(x, all(88.f)), all(-87.f));
  V n = wasm_f32x4_nearest(mul(x, all(1.44269504f)));  // x / log(2)
  V r = sub(sub(x, mul(n, all(0.693359375f))), mul(n, all(-2.12194440e-4f)));
  V p = all(1.9875691500e-4f);
  p = mul_add(p, r, all(1.3981999507e-3f));
  p = mul_add(p, r, all(8.3334519073e-3f));
  p = mul_add(p, r, all(4.1665795894e-2f));
  p = mul_add(p, r, all(1.6666665459e-1f));
  p = mul_add(p, r, all(5.0000001201e-1f));
  p = add(mul_add(mul(p, r), r, r), all(1.f));
  V power = wasm_i32x4_add(wasm_i32x4_trunc_sat_f32x4(n), wasm_i32x4_splat(127));
  return mul(p, wasm_i32x4_shl(power, 23));  // the bits of 2^n
}

static inline V silu4(V x) { return wasm_f32x4_div(x, add(all(1.f), exp4(wasm_f32x4_neg(x)))); }

// x sigmoid(x), in place.  n: how many numbers, a multiple of 4.
EXPORT(silu) void silu(F *x, int n) {
  for (int i = 0; i < n; i += 4) store(x + i, silu4(load(x + i)));
}

// A convolution of k x k, k = 1 or 3; with k = 1 also a linear layer, of B H W rows.
// in:   [B][H][W][C_in]; for k = 3 bordered.  C_in may be any number.
// w:    [C_out / 8][k k][C_in][8], filled up with zeros.  bias: [C_out], filled up to 8.
// skip: [B][H][W][C_out], added to the result; or 0.  It must not be `out`.
// out:  [B][H][W][C_out].
EXPORT(conv) void conv(const F *in, int B, int H, int W, int C_in, int k, const F *w, const F *bias,
                       const F *skip, F *out, int C_out) {
  int M = B * H * W, taps = k * k, W_in = W + k - 1, H_in = H + k - 1, offset[9];
  for (int tap = 0; tap < taps; tap++) offset[tap] = ((tap / k) * W_in + tap % k) * C_in;
  for (int n = 0; n < C_out; n += 8) {        // eight channels of the output,
    for (int m = 0; m < M; m += ROWS) {       // at four positions
      const F *at[ROWS];
      int row[ROWS];
      V low[ROWS], high[ROWS];
      for (int r = 0; r < ROWS; r++) {
        row[r] = m + r < M ? m + r : M - 1;   // the last position again, where there is no fourth
        int b = row[r] / (H * W), y = row[r] / W % H, x = row[r] % W;
        at[r] = in + ((b * H_in + y) * W_in + x) * C_in;
        low[r] = load(bias + n);
        high[r] = load(bias + n + 4);
      }
      const F *q = w + n * taps * C_in;
      for (int tap = 0; tap < taps; tap++) {
        const F *p[ROWS];
        for (int r = 0; r < ROWS; r++) p[r] = at[r] + offset[tap];
#pragma unroll 2
        for (int c = 0; c < C_in; c++, q += 8) {
          V w_low = load(q), w_high = load(q + 4);
#pragma unroll
          for (int r = 0; r < ROWS; r++) {
            V x = wasm_v128_load32_splat(p[r] + c);
            low[r] = mul_add(x, w_low, low[r]);
            high[r] = mul_add(x, w_high, high[r]);
          }
        }
      }
      for (int r = 0; r < ROWS; r++) {
        int o = row[r] * C_out + n;
        store(out + o, skip ? add(low[r], load(skip + o)) : low[r]);
        if (n + 4 < C_out) store(out + o + 4, skip ? add(high[r], load(skip + o + 4)) : high[r]);
      }
    }
  }
}

// Group norm; then y (1 + scale) + shift, and SiLU, if asked for.
// in: [B][H][W][C].  gamma, beta: [C].  scale_shift: [B][2 C], scale first; or 0.  with_silu: 0, 1.
// out: the same shape as in; or bordered, if bordered is 1: the border is left as it is.
// scratch: [2 C].
EXPORT(norm) void norm(const F *in, int B, int H, int W, int C, int groups, const F *gamma,
                       const F *beta, const F *scale_shift, int with_silu, int bordered, F *out,
                       F *scratch) {
  int N = H * W, D = C / groups;
  F *a = scratch, *b = scratch + C;           // the whole is x a + b, with one of each a channel
  for (int i = 0; i < B; i++) {
    const F *x = in + i * N * C, *scale = scale_shift + i * 2 * C, *shift = scale + C;
    for (int pass = 0; pass < 2; pass++) {    // first the mean, into b; then the variance
      for (int c = 0; c < C; c += 4) {
        V total = all(0), mean = pass ? load(b + c) : all(0);
        for (int n = 0; n < N; n++) {
          V v = load(x + n * C + c), d = sub(v, mean);
          total = add(total, pass ? mul(d, d) : v);
        }
        store(a + c, total);
      }
      for (int g = 0; g < groups; g++) {
        F total = 0;
        for (int c = g * D; c < (g + 1) * D; c++) total += a[c];
        total /= D * N;
        for (int c = g * D; c < (g + 1) * D; c++) {
          if (!pass) { b[c] = total; continue; }
          F times = gamma[c] / __builtin_sqrtf(total + 1e-5f), plus = beta[c] - b[c] * times;
          F s = scale_shift ? 1 + scale[c] : 1;
          a[c] = times * s;
          b[c] = plus * s + (scale_shift ? shift[c] : 0);
        }
      }
    }
    for (int y = 0; y < H; y++) {
      F *o = bordered ? out + ((i * (H + 2) + y + 1) * (W + 2) + 1) * C : out + (i * N + y * W) * C;
      const F *line = x + y * W * C;
      for (int n = 0; n < W * C; n += C)
        for (int c = 0; c < C; c += 4) {
          V v = mul_add(load(line + n + c), load(a + c), load(b + c));
          store(o + n + c, with_silu ? silu4(v) : v);
        }
    }
  }
}

// Each position takes over the values of all, the more of one, the better its key fits the query.
// qkv: [B][N][3 heads c], queries first, then keys, then values; c a multiple of 4.
// out: [B][N][heads c].  scores: [N], filled up to a multiple of 4.
EXPORT(attend) void attend(const F *qkv, int B, int N, int heads, int c, F *out, F *scores) {
  int C = heads * c, N4 = (N + 3) & ~3;
  F scale = 1.f / __builtin_sqrtf(c);
  for (int b = 0; b < B; b++)
    for (int h = 0; h < heads; h++)
      for (int i = 0; i < N; i++) {
        const F *base = qkv + b * N * 3 * C + h * c, *query = base + i * 3 * C;
        F *o = out + (b * N + i) * C + h * c, largest = -1e30f;
        for (int j = 0; j < N; j++) {
          const F *key = base + j * 3 * C + C;
          V dot = all(0);
          for (int e = 0; e < c; e += 4) dot = mul_add(load(query + e), load(key + e), dot);
          scores[j] = sum(dot) * scale;
          if (scores[j] > largest) largest = scores[j];
        }
        for (int j = N; j < N4; j++) scores[j] = -1e30f;
        V total = all(0);                     // softmax: e^score, divided by their sum
        for (int j = 0; j < N4; j += 4) {
          V weight = exp4(sub(load(scores + j), all(largest)));
          store(scores + j, weight);
          total = add(total, weight);
        }
        V share = all(1.f / sum(total));
        for (int e = 0; e < c; e += 4) {
          V context = all(0);
          for (int j = 0; j < N; j++) {
            const F *value = base + j * 3 * C + 2 * C;
            context = mul_add(wasm_v128_load32_splat(scores + j), load(value + e), context);
          }
          store(o + e, mul(context, share));
        }
      }
}

static inline void copy(F *to, const F *from, int n) {
  for (int i = 0; i < n; i += 4) store(to + i, load(from + i));
}

// Channels of two pictures side by side: [M][C_a], [M][C_b] -> [M][C_a + C_b].
EXPORT(concat) void concat(const F *a, const F *b, int M, int C_a, int C_b, F *out) {
  for (int m = 0; m < M; m++) {
    copy(out + m * (C_a + C_b), a + m * C_a, C_a);
    copy(out + m * (C_a + C_b) + C_a, b + m * C_b, C_b);
  }
}

// Each patch of 2 x 2 pixels into the channels: [B][2 H][2 W][C] -> [B][H][W][2 2 C].
EXPORT(fold) void fold(const F *x, int B, int H, int W, int C, F *out) {
  for (int b = 0; b < B; b++)
    for (int y = 0; y < 2 * H; y++)
      for (int i = 0; i < 2 * W; i++) {
        F *to = out + ((b * H + y / 2) * W + i / 2) * 4 * C + (y % 2 * 2 + i % 2) * C;
        copy(to, x + ((b * 2 * H + y) * 2 * W + i) * C, C);
      }
}

// Each pixel four times: [B][H][W][C] -> [B][2 H][2 W][C], bordered.
EXPORT(repeat) void repeat(const F *x, int B, int H, int W, int C, F *out) {
  for (int b = 0; b < B; b++)
    for (int y = 0; y < 2 * H; y++)
      for (int i = 0; i < 2 * W; i++) {
        F *to = out + ((b * (2 * H + 2) + y + 1) * (2 * W + 2) + i + 1) * C;
        copy(to, x + ((b * H + y / 2) * W + i / 2) * C, C);
      }
}
