// Films can be stopped, and are still for readers who asked for less motion.  Wide formulas scroll by
// the keyboard, too.  What is folded gets printed.
"use strict";

(() => {
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;

  for (const film of document.querySelectorAll("article img[data-still]")) {
    const moving = film.getAttribute("src");
    const still = film.dataset.still;
    const button = document.createElement("button");
    const name = (film.alt.split(/[.;:]/)[0] || "film").slice(0, 80);
    button.type = "button";
    button.className = "film-button";

    const show = (plays) => {
      film.src = plays ? moving : still;
      button.textContent = plays ? "Stop" : "Play";
      button.setAttribute("aria-label", `${button.textContent} the film: ${name}`);
      button.dataset.plays = plays;
    };

    show(!calm);
    button.addEventListener("click", () => show(button.dataset.plays !== "true"));
    const shown = film.closest("a") ?? film; // a link to the picture alone
    const box = document.createElement("span");
    box.className = "film";
    shown.replaceWith(box);
    box.append(shown, button);
  }

  // what scrolls must be within reach of the keyboard, and what does not should not hold it up
  const reach = () => {
    for (const formula of document.querySelectorAll("article mjx-container[display='true']")) {
      if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
      else formula.removeAttribute("tabindex");
    }
  };
  window.addEventListener("load", () => window.MathJax?.startup?.promise?.then(reach));
  window.addEventListener("resize", reach);

  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("article details:not([open])")];
    opened.forEach((part) => part.setAttribute("open", ""));
  });
  window.addEventListener("afterprint", () => opened.forEach((part) => part.removeAttribute("open")));
})();
