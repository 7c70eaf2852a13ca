'use strict';
// Numbers as pictures, and pictures as numbers.

// A grid of square grey images: x has them one behind the other, in [-1, 1].
function show(canvas, x, size) {
  const count = x.length / size ** 2, columns = Math.ceil(Math.sqrt(count));
  const rows = Math.ceil(count / columns);
  canvas.width = columns * size;
  canvas.height = rows * size;
  const context = canvas.getContext('2d');
  const pixels = context.createImageData(canvas.width, canvas.height);
  x.forEach((value, i) => {
    const image = Math.floor(i / size ** 2), row = Math.floor(i / size) % size, column = i % size;
    const line = Math.floor(image / columns) * size + row;
    const at = 4 * (line * canvas.width + (image % columns) * size + column);
    pixels.data.set(grey(value), at);
  });
  context.putImageData(pixels, 0, 0);
}

// [-1, 1] to a pixel (red, green, blue, opacity): clamp, then round.
function grey(value) {
  const level = Math.round((clamp(value) + 1) * 127.5);
  return [level, level, level, 255];
}

// A board to draw on, with pointer or keys: a grey picture, and a mask of what is to be made anew.
class Desk {
  constructor(canvas, size) {
    Object.assign(this, { canvas, size, x: size >> 1, y: size >> 1, drawing: false });
    this.picture = new Float32Array(size ** 2).fill(-1);
    this.hole = new Uint8Array(size ** 2); // 1 where it is to be made anew
    this.tool = { layer: 'picture', value: 1, width: 2 };
    this.on_change = () => {};
    this.on_move = () => {};
    canvas.width = canvas.height = size;
    canvas.onpointerdown = (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.drawing = true;
      this.move_to(...this.place(event));
      this.paint();
    };
    canvas.onpointermove = (event) => {
      if (!this.drawing) return;
      const { x, y } = this, [to_x, to_y] = this.place(event);
      const far = Math.max(Math.abs(to_x - x), Math.abs(to_y - y), 1);
      for (let i = 1; i <= far; i++) { // no gaps, however fast the pointer is
        this.move_to(Math.round(x + (to_x - x) * i / far), Math.round(y + (to_y - y) * i / far));
        this.paint(i === far);
      }
    };
    canvas.onpointerup = canvas.onpointercancel = () => { this.drawing = false; };
    canvas.onkeydown = (event) => this.key(event);
    canvas.onfocus = canvas.onblur = () => this.render();
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]
      .map((share) => Math.floor(share * this.size));
  }

  move_to(x, y) {
    [this.x, this.y] = [x, y].map((value) => Math.min(this.size - 1, Math.max(0, value)));
  }

  key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in step) {
      this.move_to(this.x + step[event.key][0], this.y + step[event.key][1]);
      if (event.shiftKey) this.paint(); else this.render();
    } else if (event.key === ' ' || event.key === 'Enter') this.paint();
    else return;
    event.preventDefault();
    this.on_move();
  }

  // A square of the tool's width around the place.
  paint(tell = true) {
    const { layer, value, width } = this.tool, { size } = this, back = (width - 1) >> 1;
    for (let y = this.y - back; y < this.y - back + width; y++) {
      for (let x = this.x - back; x < this.x - back + width; x++) {
        if (x >= 0 && x < size && y >= 0 && y < size) this[layer][y * size + x] = value;
      }
    }
    this.render();
    if (tell) this.on_change();
  }

  put(picture) {
    this.picture.set(picture.map(clamp));
    this.render();
  }

  clear() {
    this.picture.fill(-1);
    this.hole.fill(0);
    this.render();
    this.on_change();
  }

  // The mask in the course's sense: 1 where the picture is known.
  mask() { return Float32Array.from(this.hole, (hole) => 1 - hole); }

  render() {
    const context = this.canvas.getContext('2d');
    const pixels = context.createImageData(this.size, this.size);
    this.picture.forEach((value, i) => {
      const row = Math.floor(i / this.size), stripe = (row + i) % 2;
      pixels.data.set(this.hole[i] ? [stripe ? 230 : 170, 97, 0, 255] : grey(value), 4 * i);
    });
    if (document.activeElement === this.canvas) { // where the keys paint
      pixels.data.set([0, 190, 255, 255], 4 * (this.y * this.size + this.x));
    }
    context.putImageData(pixels, 0, 0);
  }
}
