// Players: pictures drawn ahead, which follow sliders, menus and ticks.  Nothing moves by itself; for
// readers who asked for less motion, the button goes one step on instead of playing.
"use strict";

(() => {
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  const PAUSE = 500; // milliseconds between two frames

  const start = (player) => {
    const data = JSON.parse(player.querySelector("script").textContent);
    const controls = [...player.querySelectorAll("[data-control]")];
    const panels = [...player.querySelectorAll(".player-panel")].map((box) => {
      const first = box.querySelector("img");
      const over = new Image(first.width, first.height);
      over.className = "player-over";
      over.alt = "";
      over.hidden = true;
      box.append(over);
      return { first, over };
    });
    const title = player.querySelector(".player-title");
    const button = player.querySelector("button");
    const slider = player.querySelector("input[type=range]");
    const pictures = new Map(); // by name, each with a promise that it can be shown
    let turn = 0;
    let timer = 0;
    let run = 0;

    const load = (name) => {
      if (name && !pictures.has(name)) {
        const picture = new Image();
        picture.src = data.folder + name;
        pictures.set(name, picture.decode().catch(() => {}));
      }
      return pictures.get(name);
    };

    const at = (control) => (control.type === "checkbox" ? +control.checked : +control.value);

    const said = (control) => data.values[controls.indexOf(control)][at(control)];

    const show = async () => {
      turn += 1;
      const mine = turn;
      const k = controls.reduce((sum, control, i) => sum * data.counts[i] + at(control), 0);
      for (const control of controls.filter((each) => each.type === "range")) {
        control.setAttribute("aria-valuetext", said(control));
        control.parentElement.querySelector("output").value = said(control);
      }
      const files = data.frames[k].map((file, p) => data.panels[p].files[file]);
      await Promise.all(files.map(([name]) => load(name)));
      if (mine !== turn) return; // the reader is further already
      const now = controls.map((control, i) => `${data.labels[i]}: ${said(control)}`).join(", ");
      files.forEach(([name, words], p) => {
        const { first, over } = panels[p];
        if (name) over.src = data.folder + name;
        over.hidden = !name;
        first.alt = `${data.panels[p].words}${words && ": "}${words} (${now})`;
      });
      title.textContent = data.titles[k];
      player.dataset.frame = k;
    };

    const say = () => {
      button.textContent = calm.matches ? "Next" : timer ? "Stop" : "Play";
      title.setAttribute("aria-live", timer ? "off" : "polite");
    };

    const stop = () => {
      clearTimeout(timer);
      timer = 0;
      say();
    };

    const step = () => {
      slider.value = slider.value === slider.max ? 0 : +slider.value + 1;
      return show();
    };

    const play = async () => {
      const mine = run;
      await step();
      if (!timer || mine !== run) return; // stopped, and perhaps begun again, while the picture came
      if (slider.value === slider.max) stop();
      else timer = setTimeout(play, PAUSE);
    };

    const toggle = () => {
      if (calm.matches) step();
      else if (timer) stop();
      else {
        timer = -1;
        run += 1;
        say();
        play();
      }
    };

    const MOVES = {
      ArrowLeft: () => slider.stepDown(),
      ArrowRight: () => slider.stepUp(),
      Home: () => (slider.value = 0),
      End: () => (slider.value = slider.max),
    };

    player.addEventListener("input", () => {
      stop();
      show();
    });
    button.addEventListener("click", toggle);
    player.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      if (event.key === " " && event.target.type === "range") toggle();
      else if (event.target === button && MOVES[event.key]) {
        stop();
        MOVES[event.key]();
        show();
      } else return;
      event.preventDefault();
    });

    // all pictures come as soon as somebody is about to move something
    const fetch = () => data.panels.forEach((panel) => panel.files.forEach(([name]) => load(name)));
    for (const kind of ["pointerenter", "focusin", "touchstart"]) {
      player.addEventListener(kind, fetch, { once: true, passive: true });
    }
    calm.addEventListener("change", stop);

    // what scrolls must be within reach of the keyboard
    const paper = player.querySelector(".player-panels");
    const reach = () => {
      if (paper.scrollWidth > paper.clientWidth) paper.tabIndex = 0;
      else paper.removeAttribute("tabindex");
    };
    new ResizeObserver(reach).observe(paper);

    player.querySelectorAll(".player-controls, .player-help").forEach((part) => (part.hidden = false));
    say();
    show(); // a browser may have kept where the controls stood
  };

  document.querySelectorAll(".player").forEach(start);
})();
