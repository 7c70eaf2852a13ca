"use strict";
// The second panel: a mixture whose score is a formula, under the pointer.

const BEGIN = { means: [[-1.5, -0.5], [1.5, 0.5]], weights: [8, 2] };
const bumps = {
  schedule: new Schedule(),
  random: new Random(21),
  chosen: 0, // the bump whose weight the slider shows
  walking: false,
  uniform: Float32Array.from({ length: 500 }, ((random) => () => random.uniform())(new Random(22))),
  normal: new Random(23).normal(2 * 500),
  x: new Float32Array(2 * 500), // where the points are
};

/** The mixture at the step of the slider. */
function noised_mixture() {
  const mixture = new Mixture(bumps.weights, bumps.means, Number(byId("width").value) ** 2);
  return mixture.noised(bumps.schedule.alpha_bar[byId("level").value]);
}

const langevin_chosen = () => document.querySelector("[name=points]:checked").value === "walking";

const field_plane = new Plane(byId("field"), 3, (plane) => {
  const mixture = noised_mixture(), places = plane.grid(17);
  plane.shade((x, y) => Math.exp(mixture.log_density(x, y)));
  const scores = new Float32Array(places.length);
  for (let i = 0; i < places.length; i += 2) scores.set(mixture.score(places[i], places[i + 1]), i);
  plane.arrows(places, scores, "quiet");
  if (!langevin_chosen()) draw_points(mixture);
  plane.points(bumps.x, "model", 1.6);
  describe(mixture);
});

/** Each point keeps its own random numbers, so that it follows its bump. */
function draw_points(mixture) {
  bumps.uniform.forEach((u, i) => {
    bumps.x.set(mixture.point(u, [bumps.normal[2 * i], bumps.normal[2 * i + 1]]), 2 * i);
  });
}

function describe(mixture) {
  const t = Number(byId("level").value), counts = mixture.means.map(() => 0);
  for (let i = 0; i < bumps.x.length; i += 2) {
    const away = mixture.means.map(([a, b]) => Math.hypot(bumps.x[i] - a, bumps.x[i + 1] - b));
    counts[away.indexOf(Math.min(...away))] += 1;
  }
  const shares = counts.map((count) => percent(count / bumps.uniform.length)).join(", ");
  const wanted = mixture.weights.map(percent).join(", ");
  byId("shares").textContent = `Points nearest to each bump: ${shares}. Weights: ${wanted}.`;
  const left = percent(bumps.schedule.alpha_bar[t]);
  show_value("level", `${t}: ${left} of the data's variance is left`);
  show_value("width", `${Number(byId("width").value).toFixed(2)} (standard deviation)`);
  byId("weight-name").textContent = `Weight of bump ${bumps.chosen + 1}`;
  show_value("weight", percent(mixture.weights[bumps.chosen]));
  const seen = `Density of ${mixture.means.length} bumps at step ${t}, with arrows of its score`;
  byId("field").setAttribute("aria-label", `${seen}, and points. ${byId("shares").textContent}`);
}

const announce = (text) => { byId("exact-status").textContent = text; };
const place = ([x, y]) => `${x.toFixed(1)}, ${y.toFixed(1)}`;
const announce_place = (k) => announce(`Bump ${k + 1} is at ${place(bumps.means[k])}.`);

/** A button for each bump, at its place. */
function show_handles(focus = null) {
  byId("plane").querySelectorAll("button").forEach((handle) => handle.remove());
  bumps.means.forEach((_, k) => {
    const handle = document.createElement("button");
    Object.assign(handle, { type: "button", textContent: k + 1 });
    handle.setAttribute("aria-describedby", "bump-keys");
    byId("plane").append(handle);
    handle.addEventListener("focus", () => choose_bump(k));
    handle.addEventListener("pointerdown", (event) => {
      handle.setPointerCapture(event.pointerId);
      choose_bump(k);
    });
    handle.addEventListener("pointermove", (event) => {
      if (handle.hasPointerCapture(event.pointerId)) move_bump(k, field_plane.where(event));
    });
    handle.addEventListener("pointerup", () => announce_place(k));
    handle.addEventListener("keydown", (event) => steer(event, k));
  });
  place_handles();
  if (focus !== null) byId("plane").querySelectorAll("button")[focus].focus();
}

function place_handles() {
  byId("plane").querySelectorAll("button").forEach((handle, k) => {
    const [x, y] = bumps.means[k];
    handle.style.left = `${50 + 50 * x / field_plane.reach}%`;
    handle.style.top = `${50 - 50 * y / field_plane.reach}%`;
    handle.setAttribute("aria-label", `Bump ${k + 1}, at ${place(bumps.means[k])}`);
    handle.setAttribute("aria-pressed", String(k === bumps.chosen));
  });
}

function choose_bump(k) {
  bumps.chosen = k;
  byId("weight").value = bumps.weights[k];
  place_handles();
  describe(noised_mixture());
}

function move_bump(k, to) {
  bumps.means[k] = to.map((x) => Math.max(-2.8, Math.min(2.8, x)));
  place_handles();
  field_plane.refresh();
}

function steer(event, k) {
  const by = arrow_key(event);
  if (by) {
    move_bump(k, bumps.means[k].map((x, d) => x + by[d]));
    announce_place(k);
  } else if ((event.key === "Delete" || event.key === "Backspace") && bumps.means.length > 1) {
    bumps.means.splice(k, 1);
    bumps.weights.splice(k, 1);
    bumps.chosen = 0;
    show_handles(0);
    field_plane.refresh();
    announce(`Bump ${k + 1} is removed; ${bumps.means.length} left.`);
  } else return;
  event.preventDefault();
}

/** One Langevin step, small beside the width of a bump. */
function langevin_step() {
  const mixture = noised_mixture();
  mixture.langevin(bumps.x, 0.2 * mixture.variance, bumps.random);
  field_plane.refresh();
}

function animate() {
  if (!bumps.walking) return;
  langevin_step();
  requestAnimationFrame(animate);
}

function set_walking(walking) {
  if (walking) document.querySelector("[name=points][value=walking]").checked = true;
  const begins = walking && !bumps.walking;
  bumps.walking = walking;
  byId("walk").textContent = walking ? "Pause" : "Start";
  if (begins) animate();
}

function reset_bumps() {
  set_walking(false);
  const means = BEGIN.means.map((mean) => [...mean]);
  Object.assign(bumps, { means, weights: [...BEGIN.weights], chosen: 0 });
  Object.assign(byId("level"), { value: 8 });
  Object.assign(byId("width"), { value: 0.3 });
  document.querySelector("[name=points][value=drawn]").checked = true;
  byId("weight").value = bumps.weights[0];
  show_handles();
  field_plane.refresh();
}

for (const id of ["level", "width"]) {
  byId(id).addEventListener("input", () => field_plane.refresh());
}
byId("weight").addEventListener("input", () => {
  bumps.weights[bumps.chosen] = Number(byId("weight").value);
  field_plane.refresh();
});
for (const radio of document.querySelectorAll("[name=points]")) {
  radio.addEventListener("change", () => {
    set_walking(langevin_chosen() && !still.matches);
    field_plane.refresh();
  });
}
byId("walk").addEventListener("click", () => {
  set_walking(!bumps.walking);
  announce(bumps.walking ? "The points walk." : "The points stand.");
});
byId("one").addEventListener("click", () => {
  set_walking(false);
  document.querySelector("[name=points][value=walking]").checked = true;
  langevin_step();
});
byId("scatter").addEventListener("click", () => {
  document.querySelector("[name=points][value=walking]").checked = true;
  bumps.x = bumps.random.normal(bumps.x.length).map((z) => 1.5 * z);
  field_plane.refresh();
  announce("The points are scattered.");
});
byId("add").addEventListener("click", () => {
  if (bumps.means.length === 6) return announce("Six bumps are enough.");
  bumps.means.push([0.4 * bumps.means.length - 0.8, 1.6]);
  bumps.weights.push(5);
  show_handles(bumps.means.length - 1);
  field_plane.refresh();
  announce(`Bump ${bumps.means.length} is added.`);
});
byId("bumps-reset").addEventListener("click", () => {
  reset_bumps();
  announce("Back at the beginning.");
});
byId("field").addEventListener("click", (event) => {
  move_bump(bumps.chosen, field_plane.where(event));
  announce_place(bumps.chosen);
});
reset_bumps();
