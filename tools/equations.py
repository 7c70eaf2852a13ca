"""Write docs/equations.md: where each equation of Ho, Jain & Abbeel 2020 is taught, computed and
tested.

    python tools/equations.py

Only what an equation says is written here, by hand.  The rest is read from where it stands:
sections of notebooks whose prose names "Eq. 4", docstrings that do, and tests marked
`@pytest.mark.equation("4")`.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "equations.md"

SAYS = {
    "1": (
        "the model: a chain of Gaussian steps from noise to picture",
        r"p_\theta(x_{0:T}) = p(x_T) \prod_{t=1}^T p_\theta(x_{t-1} \mid x_t), \quad "
        r"p_\theta(x_{t-1} \mid x_t) = \mathcal N(\mu_\theta(x_t, t), \Sigma_\theta(x_t, t))",
    ),
    "2": (
        "one step of the forward process: shrink, add noise",
        r"q(x_t \mid x_{t-1}) = \mathcal N(\sqrt{1 - \beta_t}\, x_{t-1}, \beta_t I)",
    ),
    "3": (
        "the bound on the negative log-likelihood",
        r"\mathbb E[-\log p_\theta(x_0)] \le \mathbb E_q\Big[-\log p(x_T) "
        r"- \sum_{t \ge 1} \log \frac{p_\theta(x_{t-1} \mid x_t)}{q(x_t \mid x_{t-1})}\Big] = L",
    ),
    "4": (
        "the jump to step t",
        r"q(x_t \mid x_0) = \mathcal N(\sqrt{\bar\alpha_t}\, x_0, (1 - \bar\alpha_t) I)",
    ),
    "5": (
        "the bound as a sum of KL divergences",
        r"L = \mathbb E_q\Big[L_T + \sum_{t > 1} L_{t-1} + L_0\Big]",
    ),
    "6": (
        "the posterior: where a state came from, if the picture is known",
        r"q(x_{t-1} \mid x_t, x_0) = \mathcal N(\tilde\mu_t(x_t, x_0), \tilde\beta_t I)",
    ),
    "7": (
        "its mean and variance",
        r"\tilde\mu_t = \frac{\sqrt{\bar\alpha_{t-1}} \beta_t}{1 - \bar\alpha_t} x_0 "
        r"+ \frac{\sqrt{\alpha_t} (1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t} x_t, \quad "
        r"\tilde\beta_t = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t} \beta_t",
    ),
    "8": (
        "with fixed variance, a squared distance of means",
        r"L_{t-1} = \mathbb E_q\Big[\frac{1}{2 \sigma_t^2} \lVert \tilde\mu_t - \mu_\theta \rVert^2\Big] + C",
    ),
    "9": (
        "the same, with $x_0$ expressed by $x_t$ and the noise",
        r"\tilde\mu_t\Big(x_t, \tfrac{1}{\sqrt{\bar\alpha_t}} (x_t - \sqrt{1 - \bar\alpha_t}\, \epsilon)\Big)",
    ),
    "10": (
        "and simplified: the posterior mean from the noise",
        r"\frac{1}{\sqrt{\alpha_t}} \Big(x_t - \frac{\beta_t}{\sqrt{1 - \bar\alpha_t}} \epsilon\Big)",
    ),
    "11": (
        "the model's mean, in the same form",
        r"\mu_\theta = \frac{1}{\sqrt{\alpha_t}} \Big(x_t "
        r"- \frac{\beta_t}{\sqrt{1 - \bar\alpha_t}} \epsilon_\theta(x_t, t)\Big)",
    ),
    "12": (
        "a weighted squared error of the noise",
        r"L_{t-1} - C = \mathbb E\Big[\frac{\beta_t^2}{2 \sigma_t^2 \alpha_t (1 - \bar\alpha_t)} "
        r"\lVert \epsilon - \epsilon_\theta(x_t, t) \rVert^2\Big]",
    ),
    "13": (
        "the last step: a Gaussian cut into the 256 pixel values",
        r"p_\theta(x_0 \mid x_1) = \prod_i \int_{\delta_-(x_0^i)}^{\delta_+(x_0^i)} "
        r"\mathcal N(x; \mu_\theta^i(x_1, 1), \sigma_1^2)\, dx",
    ),
    "14": (
        "the simple loss: the weight dropped",
        r"L_{\text{simple}} = \mathbb E\big[\lVert \epsilon - \epsilon_\theta(x_t, t) \rVert^2\big]",
    ),
    "15": (
        "the guess of the picture from the predicted noise",
        r"\hat x_0 = (x_t - \sqrt{1 - \bar\alpha_t}\, \epsilon_\theta(x_t, t)) / \sqrt{\bar\alpha_t}",
    ),
    "Algorithm 1": (
        "training: draw a picture, a step and noise; take a gradient step",
        r"\nabla_\theta \lVert \epsilon "
        r"- \epsilon_\theta(\sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon, t) \rVert^2",
    ),
    "Algorithm 2": (
        "sampling: from noise, one step back after the other",
        r"x_{t-1} = \mu_\theta(x_t, t) + \sigma_t z",
    ),
}

HEAD = """\
# Equations

Equations 1 to 15 of Ho, Jain & Abbeel 2020 ([arXiv:2006.11239](https://arxiv.org/abs/2006.11239)) and its two
algorithms: the sections in which they are taught, beside code that runs; the functions that compute them; and the tests
that check them. Symbols are those of the [notation page](notation.md).

This page is made by `python tools/equations.py` from the notebooks, the docstrings and the tests; a test keeps it
current and complete.

| | what it says | taught in | computed by | tested by |
|---|---|---|---|---|
"""

OF_ANOTHER_PAPER = re.compile(
    r"\b(?!Ho\b)[A-Z]\w+(?: & [A-Z]\w+| et al\.)?(?: \d{4})?, (?:Eqs?\.|Algorithms?) \d+(?:(?:,| and) \d+\b)*"
)
EQUATIONS = re.compile(r"\bEqs?\.\s(\d+(?:(?:,| and| to|, and)\s\d+\b(?!,\d))*)")
ALGORITHMS = re.compile(r"\bAlgorithms?\s(\d+(?:(?:,| and)\s\d+\b)*)")


def named_in(text: str) -> set[str]:
    """The equations and algorithms that a text names: "Eq. 6, 7", "Eq. 1 to 15", "Algorithm 2".

    Those of another paper have its authors in front ("Nichol & Dhariwal 2021, Eq. 17") and do not
    count.
    """
    text, found = OF_ANOTHER_PAPER.sub("", text), set()
    for numbers in EQUATIONS.findall(text):
        found |= set(re.findall(r"\d+", numbers))
        for first, last in re.findall(r"(\d+) to (\d+)", numbers):
            found |= {str(number) for number in range(int(first), int(last) + 1)}
    for numbers in ALGORITHMS.findall(text):
        found |= {f"Algorithm {number}" for number in re.findall(r"\d+", numbers)}
    return found


def sections() -> Iterator[tuple[Path, str, str, str]]:
    """Notebook, number, prose and code of each numbered section ("## 3.3 ...") of every notebook."""
    for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        number, prose, code = "", [], []
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            parts = re.split(r"(?m)^(?=## )", source) if cell["cell_type"] == "markdown" else []
            code += [source] if cell["cell_type"] == "code" else []
            for part in parts:
                if part.startswith("## "):
                    yield path, number, "\n".join(prose), "\n".join(code)
                    heading = re.match(r"## (\d+\.\d+) ", part)
                    number, prose, code = heading[1] if heading else "", [], []
                prose.append(part)
        yield path, number, "\n".join(prose), "\n".join(code)


def taught() -> dict[str, list[tuple[Path, str, str]]]:
    """For each equation the sections that name it and run code: notebook, number and code."""
    found = {}
    for path, number, prose, code in sections():
        for equation in named_in(prose) if number and code else ():
            found.setdefault(equation, []).append((path, number, code))
    return found


def computed() -> dict[str, list[str]]:
    """For each equation the public functions, methods and classes whose docstring names it."""
    found = {}
    for path in sorted((ROOT / "tutorial_lib").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT / "tutorial_lib").with_suffix("").parts)
        for name, node in definitions(ast.parse(path.read_text(encoding="utf-8")), module):
            for equation in named_in(ast.get_docstring(node) or ""):
                found.setdefault(equation, []).append(name)
    return found


def definitions(
    tree: ast.Module | ast.ClassDef, inside: str
) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """The public functions, classes and methods of a module, each with its dotted name."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield f"{inside}.{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from definitions(node, f"{inside}.{node.name}")


def tested() -> dict[str, list[str]]:
    """For each equation the tests that are marked with it, as pytest names them."""
    found = {}
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        for name, node in definitions(ast.parse(path.read_text(encoding="utf-8")), path.stem):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.equation":
                    for number in mark.args:
                        found.setdefault(str(ast.literal_eval(number)), []).append(
                            name.replace(".", "::")
                        )
    return found


def page() -> str:
    """The text of docs/equations.md."""
    sections, functions, tests = taught(), computed(), tested()
    rows = []
    for equation, (words, formula) in SAYS.items():
        places = {}
        for path, number, _ in sections.get(equation, []):
            places.setdefault(path, []).append(number)
        links = [
            f"[{path.name[:2]}](../notebooks/{path.name}): {', '.join(found)}"
            for path, found in places.items()
        ]
        cells = [
            equation if equation.startswith("Algorithm") else f"Eq. {equation}",
            f"{words}<br>${formula}$",
            "<br>".join(links),
            "<br>".join(f"`{name}`" for name in sorted(set(functions.get(equation, [])))),
            "<br>".join(f"`{name}`" for name in tests.get(equation, [])),
        ]
        rows.append(f"| {' | '.join(cells)} |\n")
    return HEAD + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"Wrote {PAGE.relative_to(ROOT)}: {len(SAYS)} rows")
