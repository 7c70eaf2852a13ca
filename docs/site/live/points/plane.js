"use strict";
// A square of the plane on a canvas: points, arrows and shade, in the colours of the page.

const byId = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)"); // nothing may move by itself
const SEEN = []; // what has to be drawn anew when the page changes its size or colours

/** What an arrow key adds to x and y, further with Shift; undefined for other keys. */
function arrow_key({ key, shiftKey }) {
  const by = shiftKey ? 0.5 : 0.1;
  return {
    ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, by], ArrowDown: [0, -by],
  }[key];
}

class Plane {
  /** reach: the square goes from -reach to reach.  draw: called whenever it has to be drawn. */
  constructor(canvas, reach, draw) {
    Object.assign(this, { canvas, reach, draw, pen: canvas.getContext("2d") });
    SEEN.push(this);
    new ResizeObserver(() => this.refresh()).observe(canvas);
  }

  refresh() {
    const { canvas, pen } = this, dense = devicePixelRatio || 1;
    this.width = canvas.clientWidth;
    this.height = canvas.clientHeight;
    const [width, height] = [this.width, this.height].map((size) => Math.round(size * dense));
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    this.scale = this.width / (2 * this.reach);
    pen.clearRect(0, 0, this.width, this.height);
    this.draw(this);
  }

  colour(name) {
    return getComputedStyle(this.canvas).getPropertyValue(`--${name}`).trim();
  }

  /** From the plane to the canvas. */
  at(x, y) {
    return [this.width / 2 + x * this.scale, this.height / 2 - y * this.scale];
  }

  /** From an event to the plane. */
  where(event) {
    const box = this.canvas.getBoundingClientRect();
    const across = (event.clientX - box.left) / box.width;
    const down = (event.clientY - box.top) / box.height;
    return [this.reach * (2 * across - 1), this.reach * (1 - 2 * down)];
  }

  points(x, colour, size = 1.6) {
    this.pen.fillStyle = this.colour(colour);
    for (let i = 0; i < x.length; i += 2) {
      const [across, down] = this.at(x[i], x[i + 1]);
      this.pen.fillRect(across - size, down - size, 2 * size, 2 * size);
    }
  }

  /** The places of a grid of side by side arrows, as x, y, x, y, ... */
  grid(side) {
    const step = 2 * this.reach / side;
    return Float32Array.from({ length: 2 * side * side }, (_, i) => {
      const cell = i >> 1, k = i & 1 ? Math.floor(cell / side) : cell % side;
      return (k + 0.5) * step - this.reach;
    });
  }

  /** An arrow of each score at its place.  Its length grows with the score, up to one cell. */
  arrows(places, scores, colour) {
    const { pen } = this, cell = this.width / Math.sqrt(places.length / 2);
    pen.strokeStyle = this.colour(colour);
    pen.lineWidth = 1.2;
    pen.beginPath();
    for (let i = 0; i < places.length; i += 2) {
      const steep = Math.hypot(scores[i], scores[i + 1]);
      if (!(steep > 0)) continue;
      const length = 0.9 * cell * steep / (steep + 2);
      const [u, v] = [length * scores[i] / steep, -length * scores[i + 1] / steep];
      const [across, down] = this.at(places[i], places[i + 1]);
      const [tip_x, tip_y] = [across + u / 2, down + v / 2];
      pen.moveTo(across - u / 2, down - v / 2);
      pen.lineTo(tip_x, tip_y);
      pen.lineTo(tip_x - 0.3 * u - 0.2 * v, tip_y - 0.3 * v + 0.2 * u);
      pen.moveTo(tip_x, tip_y);
      pen.lineTo(tip_x - 0.3 * u + 0.2 * v, tip_y - 0.3 * v - 0.2 * u);
    }
    pen.stroke();
  }

  /** Darker where `density` is higher, relative to its highest value. */
  shade(density, side = 72) {
    const small = document.createElement("canvas");
    small.width = small.height = side;
    const picture = new ImageData(side, side), places = this.grid(side);
    const values = Float32Array.from({ length: side * side }, (_, i) =>
      density(places[2 * i], -places[2 * i + 1])); // the first row is at the top
    const top = values.reduce((a, b) => Math.max(a, b));
    const [red, green, blue] = this.colour("shade").split(",").map(Number);
    values.forEach((value, i) => {
      picture.data.set([red, green, blue, 150 * Math.sqrt(value / top)], 4 * i);
    });
    small.getContext("2d").putImageData(picture, 0, 0);
    this.pen.imageSmoothingEnabled = true;
    this.pen.drawImage(small, 0, 0, this.width, this.height);
  }
}

const refresh_all = () => SEEN.forEach((plane) => plane.refresh());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", refresh_all);
