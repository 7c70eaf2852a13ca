"use strict";
// Data to learn from: the shapes of `toys`, and words.

const SHAPES = {
  "swiss roll": (random) => {
    const angle = 1.5 * Math.PI * (1 + 2 * random.uniform());
    return [angle * Math.cos(angle) / 7.2, angle * Math.sin(angle) / 7.2];
  },
  "two moons": (random) => {
    const angle = Math.PI * random.uniform(), side = random.integer(2) ? 1 : -1;
    return [1.4 * side * (Math.cos(angle) - 0.5), 1.4 * side * (Math.sin(angle) - 0.25)];
  },
  "two rings": (random) => {
    const angle = 2 * Math.PI * random.uniform(), radius = 0.8 + random.integer(2);
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  },
  checkerboard: (random) => {
    const column = random.integer(4), row = 2 * random.integer(2) + column % 2;
    return [0.85 * (column + random.uniform() - 2), 0.85 * (row + random.uniform() - 2)];
  },
};

/** `count` points of a shape, as x, y, x, y, ... */
function points_of(shape, count, random) {
  return Float32Array.from(Array.from({ length: count }, () => SHAPES[shape](random)).flat());
}

/** `count` points in the ink of a word, as wide or as high as there is room. */
function points_of_word(word, count, random) {
  const SIDE = 480, canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.font = "bold 100px sans-serif";
  const wide = pen.measureText(word).width;
  pen.font = `bold ${Math.min(0.9, 0.95 * 100 / wide) * SIDE}px sans-serif`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.fillText(word, SIDE / 2, SIDE / 2);
  const { data } = pen.getImageData(0, 0, SIDE, SIDE), ink = [];
  for (let i = 0; i < SIDE * SIDE; i++) if (data[4 * i + 3] > 128) ink.push(i);
  if (!ink.length) return new Float32Array(0);
  return Float32Array.from(Array.from({ length: count }, () => {
    const i = ink[random.integer(ink.length)];
    const column = i % SIDE + random.uniform(), row = Math.floor(i / SIDE) + random.uniform();
    return [4.4 * (column / SIDE - 0.5), 4.4 * (0.5 - row / SIDE)];
  }).flat());
}
