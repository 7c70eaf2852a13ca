// Draw formulas: node formulas.cjs PATH/TO/mathjax < formulas.json > drawings.json
// In: a list of [TeX, whether it stands on a line of its own].  Out: a list of SVG pictures, which need no font and
// no script.  A formula that MathJax does not understand comes back as {"wrong": what it says}.
const path = require("path");
const fs = require("fs");

require(path.resolve(process.argv[2]))
  .init({ loader: { load: ["input/tex-full", "output/svg"] }, svg: { fontCache: "none" } })
  .then((MathJax) => {
    const adaptor = MathJax.startup.adaptor;
    const drawn = JSON.parse(fs.readFileSync(0, "utf8")).map(([tex, display]) => {
      const picture = adaptor.firstChild(MathJax.tex2svg(tex, { display }));
      const text = adaptor.outerHTML(picture);
      const wrong = text.match(/data-mjx-error="([^"]*)"/);
      return wrong ? { wrong: wrong[1] } : text;
    });
    process.stdout.write(JSON.stringify(drawn));
  })
  .catch((error) => {
    console.error(error.message);
    process.exit(1);
  });
