"""Search the checks of exercises for a wrong answer that passes, or a right one that is refused.

    python tests/search_answers.py [--draws 200] [NUMBER ...]

NUMBER is that of a notebook or of an exercise, as 02 or 02.3; all of them by default.  Two sorts of
answers are judged, each on so many draws of fresh inputs:

- every mutant of a solution: one slip of `mutants.py` at one place, or one name for another;
- the answers of `answers/`, wrong and right ones.

What passes in more than 1 % of the draws though it is wrong, or is ever refused though it is right,
is printed, and the exit code is then 1.  A mutant that passes always may be a right answer: `SAME`
gives the reason.
"""

import argparse
import ast
import copy
import itertools
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

os.environ["TUTORIAL_LIB_QUIET"] = "1"
sys.path.append(str(Path(__file__).parents[1] / "tools"))

import answers
import editions
from mutants import PARAMETERLESS, Slip, earlier, other_name

from tutorial_lib.course import exercises

ALLOWED = 0.01  # of the draws, in which a wrong answer may pass
TABLES = ("beta", "alpha", "alpha_bar", "beta_tilde")  # of a schedule, and easily mistaken
COUNTERS = ("t", "s", "n", "k", "i", "j")
SECONDS = 10  # of the processor; an answer that takes longer hangs

OPEN = {
    "02.5": "any schedule that keeps the rules is right",
    "04.8": "any network with levels and skips that uses t is right",
}
# Why a mutant is a right answer, by exercise: a part of the line that the slip leaves, the reason.
SAME = {
    "00.2": {
        "range(len(alpha": "the tables are of one length",
        "x - beta[t].sqrt() * torch.randn": "noise has no sign",
        "torch.randn(x.shape)": "noise of another generator is noise",
        "torch.randn(eps_hat.shape": "they have the same shape",
    },
    "00.3": {
        "x - beta.sqrt() * z": "noise has no sign",
        "torch.randn(x.shape)": "noise of another generator is noise",
        "torch.randn(eps_hat.shape": "they have the same shape",
    },
    "01.1": {"for k in range(len(P)))": "brackets"},
    "01.4": {
        "torch.eye(len(P), dtype=P.dtype) **": "0 and 1 are their own powers",
        "torch.eye(len(P), dtype=P.dtype) - P.T": "0 on the right side has no sign",
        "torch.eye(len(P))": "the sum is in 64 bits all the same",
        "equations.dtype": "they are of one kind",
        "len(equations)": "they are of one length",
    },
    "01.6": {
        "P": "what stands on the diagonal is taken away again",
        "P.fill_diagonal_(1)": "what stands on the diagonal is taken away again",
        "pass": "what stands on the diagonal is taken away again",
    },
    "01.8": {
        "late = (": "which of the two comes first does not matter",
        "later = (": "which of the two comes first does not matter",
        "allclose(later, late)": "which of the two comes first does not matter",
        "late[0]": "all rows are equal, or none is: any of them may be compared",
        "late[-1]": "all rows are equal, or none is: any of them may be compared",
        "late[1]": "all rows are equal, or none is: any of them may be compared",
        "later[0]": "it has settled, so the two powers are equal",
    },
    "02.6": {"* grid - x_1) ** 2": "a square has no sign"},
    "03.1": {"(m_p - m_q) ** 2": "a square has no sign"},
    "03.4": {
        "beta = torch.tensor(beta)": "32 bits are enough",
        "torch.ones(1)": "the table is in 64 bits all the same",
    },
    "03.6": {
        "torch.tensor([lower, upper])": "32 bits are enough",
        "if k >= 255": "255 is the last",
    },
    "03.8": {
        "zip(Q, P)": "the lists are of one length",
        "strict=False": "the lists are of one length",
        "(pairs * p_T.log()).sum()": "summed over rows, the last pairs are q(x_T | x_0)",
    },
    "04.4": {
        "k - 1 + (k == 1)": "a softmax stays as it is when as much is taken from all scores",
        "k.shape[1] **": "all three have as many channels",
        "v.shape[1] **": "all three have as many channels",
    },
    "04.7": {"return longest ** (torch.arange(half) /": "32 bits are enough"},
    "04b.1": {
        "k - 1 + (k == 1)": "a softmax stays as it is when as much is taken from all scores",
        "k.shape[1] **": "all three have as many channels",
        "v.shape[1] **": "all three have as many channels",
        "summary.shape[1] **": "all three have as many channels",
    },
    "04b.3": {
        "dim=(2, 1, 3)": "the order of the axes does not matter",
        "dim=(1, 3, 2)": "the order of the axes does not matter",
    },
    "05.1": {
        "return pixels / 127.5": "a byte divided by a float is a float in 32 bits",
        ".clamp(0, 255).round()": "0 and 255 are whole",
    },
    "05.2": {
        "(eps - network(x_t, t))": "a square has no sign",
        ".flatten(1).square()": "each number is squared, in whatever shape",
    },
    "05.3": {"min((1 + k)": "the smaller of the two, in whatever order"},
    "05.5": {
        "fall, rise = (step": "their names do not matter",
        "rise, fall = ((steps": "their names do not matter",
        "min(1, rise": "the smallest of three, in whatever order",
        "min(rise, fall, 1)": "the smallest of three, in whatever order",
    },
    "05.7": {
        "eps - network(x_t, t)": "a square has no sign",
        "generator=generator) - 1]": "x[-1] is the last image, so all are drawn as often",
    },
    "05.8": {
        "(x_0 - network(x_t, t))": "a square has no sign",
        ".flatten(1).square()": "each number is squared, in whatever shape",
    },
    "05b.2": {
        "in zip(x.chunk(pieces), y.chunk(pieces))": "both are cut in the same way",
        "strict=False": "both are cut in the same way",
        "len(wanted)": "both are cut in the same way",
        "len(y)": "both are of one length",
    },
    "05b.4": {
        "(warmup - step)": "a cosine has no sign",
        "(warmup - steps)": "a cosine has no sign",
    },
    "06.3": {
        "x - schedule.beta_tilde[t].sqrt() * z": "noise has no sign",
        "if t >= 1": "beta_tilde_1 is 0",
        "generator=generator)": "noise in 32 bits is noise",
        "dtype=alpha": "noise in 64 bits is noise",
        "dtype=beta": "noise in 64 bits is noise",
        "dtype=eps_hat": "they are of one kind",
        "dtype=x_T": "they are of one kind",
        "eps_hat.shape": "they have the same shape",
        "x_T.shape": "they have the same shape",
        "len(x_T)": "they are of one length",
    },
    "06b.1": {
        "(b.mean() - a.mean()) ** 2": "a square has no sign",
        "(b.std() - a.std()) ** 2": "a square has no sign",
    },
    "06b.2": {
        "picture.double() - known.double()": "a square has no sign",
        "return ((": "a whole number in a tensor is one, too",
        "(known - picture.double())": "the difference is computed in 64 bits all the same",
        "(known.double() - picture)": "the difference is computed in 64 bits all the same",
    },
    "06b.3": {
        "known - x_t[:, None]": "a square has no sign",
        ".flatten(2).square()": "each number is squared, in whatever shape",
    },
    "09.3": {"((m - x) ** 2)": "a square has no sign"},
    "09.7": {"((t - 1) ** 2": "a square has no sign"},
    "10.5": {
        "mask ** ": "0 and 1 are their own powers",
        "(1 - mask) ** ": "0 and 1 are their own powers",
        "like=": "they are of one kind",
    },
    "19.4": {"(p q c)": "there is one channel"},
    "19.5": {
        "(eps - eps_hat).square()": "a square has no sign",
        ".flatten(1).square()": "each number is squared, in whatever shape",
    },
}


def mutants(number: str) -> Iterator[tuple[str, Any]]:
    """Every slip in the solution of an exercise: the lines it changes, and what is handed in."""
    tree = ast.parse(answers.cells("solutions")[number])
    seen = {ast.unparse(tree)}
    for place, function in enumerate(tree.body):
        if not isinstance(function, ast.FunctionDef | ast.ClassDef):
            continue
        for slip in slips(function):
            broken = copy.copy(tree)
            broken.body = list(tree.body)
            broken.body[place] = slip(copy.deepcopy(function))
            source = ast.unparse(ast.fix_missing_locations(broken))
            if source not in seen:
                seen.add(source)
                yield changed(ast.unparse(tree), source), handed(number, source)


def changed(before: str, after: str) -> str:
    """The lines of a cell that a slip has changed."""
    old = before.splitlines()
    lines = [line.strip() for line in after.splitlines() if line not in old]
    return "; ".join(lines) or "a line is lost"


def slips(function: ast.FunctionDef | ast.ClassDef) -> Iterator[Slip]:
    """All slips that can be made in a function, or in the methods of a class."""
    called = {ast.unparse(n.func) for n in ast.walk(function) if isinstance(n, ast.Call)}
    names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    names = names - called - {"torch", "nn", "F", "math", "blocks", "schedule"}
    rules: list[Callable[[int], Slip]] = list(PARAMETERLESS)
    rules += [partial(earlier, name=name) for name in COUNTERS if name in names]
    pairs = itertools.permutations(sorted(names), 2), itertools.permutations(TABLES, 2)
    rules += [partial(other_name, **{old: new}) for old, new in itertools.chain(*pairs)]
    for rule in rules:
        for occurrence in range(len(rule(0).places(function))):
            yield rule(occurrence)


@cache
def opening(notebook: str) -> str:
    """What the solutions of a notebook import."""
    (path,) = (path for path in editions.notebooks() if editions.number(path) == notebook)
    cells = editions.answers_to(path).cells
    return next(cell.source for cell in cells if cell.cell_type == "code")


def handed(number: str, source: str) -> Any:
    """What a cell hands to `check`, run after the cells of the same notebook before it."""
    notebook = number.partition(".")[0]
    scope: dict[str, Any] = {}
    exec(opening(notebook), scope)
    scope["check"] = lambda *_: None
    for which, cell in answers.cells("solutions").items():
        if which.partition(".")[0] == notebook and which < number:
            exec(cell, scope)
    exec(compile(source, f"mutant of {number}", "exec"), scope)
    return eval(answers.handed_in(number), scope)


def right_by_reason(number: str, lines: str) -> bool:
    """Whether it is known why a mutant is a right answer."""
    reasons = SAME.get(number, {})
    return number in OPEN or lines in reasons or any(part in lines for part in reasons if part[1:])


class Hangs(BaseException):
    """An answer took too long."""


def _stop(*_: Any) -> None:
    raise Hangs


def judged(number: str, answer: Any, draws: int) -> tuple[int, Counter]:
    """In how many draws an answer passes, and what is said of it in the others."""
    passed, said = 0, Counter()
    for seed in range(draws):
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            found = exercises.verdict(number, answer, 1000 + seed)
        except Hangs:
            return passed, Counter({"it hangs": draws})
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        passed += found.right
        if not found.right:
            said[found.message] += 1
    return passed, said


def search(number: str, draws: int, verbose: bool) -> list[str]:
    """What is wrong with the check of an exercise."""
    faults, same, count = [], 0, 0
    for lines, mutant in mutants(number):
        passed, said = judged(number, mutant, draws)
        count += 1
        if passed == draws and right_by_reason(number, lines):
            same += 1
        elif passed > ALLOWED * draws:
            faults.append(f"mutant passes in {passed / draws:.1%}: {lines}")
        elif verbose:
            print(f"   {passed:3d}  {lines}  ->  {said.most_common(1)[0][0]}")
    wrong, right = answers.wrong().get(number, []), answers.right().get(number, [])
    for body, expected in wrong:
        passed, said = judged(number, answers.written(number, body), draws)
        if passed > ALLOWED * draws:
            faults.append(f"wrong answer passes in {passed / draws:.1%}: {body}")
        elif any(expected not in message for message in said):
            other = next(message for message in said if expected not in message)
            faults.append(f"of {body!r} is said {other!r}, and not {expected!r}")
    for body in right:
        passed, said = judged(number, answers.written(number, body), draws)
        if passed < draws:
            faults.append(f"right answer refused in {1 - passed / draws:.1%}: {body} {said}")
    print(
        f"{number}: {count} mutants, {same} of them right; {len(wrong)} wrong answers and "
        f"{len(right)} right ones; {len(faults)} faults",
        flush=True,
    )
    return faults


def main() -> int:
    """Search the exercises that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("numbers", nargs="*", metavar="NUMBER")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--verbose", action="store_true", help="what is said of each mutant")
    options = parser.parse_args()
    signal.signal(signal.SIGPROF, _stop)
    found = 0
    for number in exercises.every_exercise():
        asked = (number, number.partition(".")[0])
        if not options.numbers or any(one in options.numbers for one in asked):
            for fault in search(number, options.draws, options.verbose):
                found += 1
                print("   ", fault, flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
