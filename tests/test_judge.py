"""Marks for code that nobody has read: right work gets them, and no attack does."""

import json
import re
import shutil
import socket
import time
from contextlib import suppress
from dataclasses import replace

import editions
import nbformat
import pytest
import torch
from conftest import ROOT

from tutorial_lib.course import exercises
from tutorial_lib.course.exercises import n02
from tutorial_lib.course.grading import judge, wire
from tutorial_lib.schedule import linear

try:
    judge.sandbox()
    WALLS = True
except judge.NoSandbox as error:
    WALLS, REASON = False, str(error)
walled = pytest.mark.skipif(not WALLS, reason="" if WALLS else REASON)

START = (
    "import torch\nfrom tutorial_lib import diffusion\nfrom tutorial_lib.course import exercises"
)
RIGHT = "def answer(beta, t):\n    return (1 - beta) ** (t / 2)"  # of 02.1
WRONG = "def answer(beta, t):\n    return 0.5"


def begun():
    with judge.Judge(sandboxed=WALLS) as own:
        assert own.run(START) == []
        yield own


submission = pytest.fixture(begun)
honest = pytest.fixture(begun, scope="module", name="honest")  # nobody leaves anything behind in it


def mark_of(submission, source: str, number: str = "02.1", **how) -> exercises.Verdict:
    submission.run(source)
    return submission.mark(number, "answer", **how)


# --- right work


@pytest.mark.parametrize("path", editions.notebooks(), ids=lambda path: path.stem)
def test_the_solutions_in_the_hand_in_get_full_marks(path):
    """All cells of the file run, hints and the tables of the statements included."""
    made = editions.assignment(nbformat.read(path, as_version=4), editions.answers_to(path))
    statements = "\n".join(cell.source for cell in made.cells if cell.cell_type == "markdown")
    verdicts = {}
    with judge.Judge(sandboxed=WALLS) as own:
        for cell in made.cells:
            if cell.cell_type != "code":
                continue
            if cell.metadata.nbgrader.grade:
                number, answer = re.search(r'mark\("([\w.]+)", (.*)\)$', cell.source).groups()
                verdicts[number] = own.mark(number, answer)
            else:
                shown = own.run(cell.source)
                assert not [o for o in shown if o["output_type"] == "error"], shown
        for call in set(re.findall(r'`(hint\("[\w.]+"\))`', statements)):
            assert not [o for o in own.run(call) if o["output_type"] == "error"]
    assert verdicts.keys() == editions.exercises(editions.answers_to(path)).keys()
    wrong = [verdict.message for verdict in verdicts.values() if not verdict.right]
    assert not wrong  # a check that needs the answer's own objects says `beside=True`


def test_wrong_work_is_told_what_is_wrong(honest):
    verdict = mark_of(honest, WRONG)
    assert verdict.state == "wrong"
    assert re.search(r"left for beta = 0\.\d+ after \d+ steps is off by \d", verdict.message)
    assert mark_of(honest, "def answer(beta, t):\n    ...").state == "not attempted"
    assert "1 / 0" in mark_of(honest, "def answer(beta, t):\n    return 1 / 0").message
    honest.run("del answer")
    assert "NameError" in honest.mark("02.1", "answer").message
    assert mark_of(honest, RIGHT).right


def test_what_a_cell_prints_shows_and_raises_comes_back(honest):
    source = "import sys\nprint(1)\nprint(2, file=sys.stderr)\ndisplay('three')\n1 / 0"
    printed, warned, shown, error = honest.run(source)
    assert printed == {"output_type": "stream", "name": "stdout", "text": "1\n"}
    assert warned["text"] == "2\n"
    assert shown["data"] == {"text/plain": "'three'"}
    assert error["ename"] == "ZeroDivisionError"
    assert "division by zero" in error["traceback"][-1]


def test_gradients_flow_through_the_functions_of_a_check(honest):
    """Exercise 05.4 descends a loss that only the judge knows."""
    source = """
def answer(w, loss, lr, steps):
    for _ in range(steps):
        w = (w - lr * torch.autograd.grad(loss(w), w)[0]).detach().requires_grad_()
    return w
"""
    assert mark_of(honest, source, "05.4").right


def test_a_check_that_calls_back_while_it_is_called_is_told_so(honest, monkeypatch):
    def test(answer, generator):
        answer(lambda function: function(1))

    monkeypatch.setitem(n02.EXERCISES, "02.1", replace(n02.EXERCISES["02.1"], test=test))
    source = "def answer(call):\n    return call(lambda x: x)"
    assert "beside=True" in mark_of(honest, source).message
    monkeypatch.undo()
    assert mark_of(honest, RIGHT).right


def test_a_name_gives_inputs_of_its_own(honest):
    told = [
        mark_of(honest, WRONG, "02.2", seed=exercises.seed_of(name, "02.2")).message
        for name in ("ada", " Ada", "emmy")
    ]
    assert told[0] == told[1]
    first, other = (exercises.seed_of(name, "02.2") for name in ("ada", "emmy"))
    assert first != other
    assert first == 283604402  # the same on every machine


# --- time

ENDLESS = "while True:\n    pass"
BUSY = "def answer(beta, t):\n    while True:\n        torch.ones(3).sum()"
DEAF = "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)"


def test_endless_work_is_stopped_and_the_rest_counts(submission):
    assert "takes too long" in mark_of(submission, BUSY, seconds=1).message
    assert submission.run(ENDLESS, 1)[0]["ename"] == "OutOfTime"
    asking = "def answer(network, *rest):\n    while True:\n        network(*rest[1:3])"
    for _ in range(20):  # its alarm nearly always rings while a question is asked
        assert "takes too long" in mark_of(submission, asking, "05.2", seconds=0.1).message
    assert mark_of(submission, RIGHT).right


def test_who_does_not_stop_is_ended(submission, monkeypatch):
    monkeypatch.setattr(judge, "GRACE", 1.0)
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="was ended"):
        submission.run(
            f"import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\n{ENDLESS}", 1
        )
    assert time.monotonic() - began < 30
    with pytest.raises(RuntimeError, match="ended"):
        submission.mark("02.1", "answer")


@pytest.mark.parametrize("hears", [True, False])
def test_who_asks_without_end_is_ended(submission, monkeypatch, hears):
    monkeypatch.setattr(judge, "GRACE", 1.0)
    source = f"""
import os, socket, sys
from tutorial_lib.course.grading import wire
line = wire.Line(socket.socket(fileno=os.dup(int(sys.argv[1]))))
{DEAF}
while True:
    line.send(wire.packed(["ask", 0, [], {{}}], None))
    {hears} and line.receive()
"""
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="was ended"):
        submission.run(source, 1)
    assert time.monotonic() - began < 30


# --- attacks on the marks

ATTACKS = {
    "rewritten library": """
import tutorial_lib.course.exercises.checks as checks
import tutorial_lib.course.exercises.n02 as n02
right = exercises.Verdict("right", "right!")
exercises.mark = exercises.check = exercises.verdict = lambda *a, **k: right
checks.same = n02.same = checks.true = n02.true = lambda *a, **k: None
n02.EXERCISES.clear()
""",
    "other modules": """
import sys, types
fake = types.ModuleType("tutorial_lib.course.exercises")
fake.mark = fake.check = lambda *a, **k: print("02.1: right!")
sys.modules["tutorial_lib.course.exercises"] = fake
""",
    "rewritten process": """
from tutorial_lib.course.grading import pupil
pupil.Pupil.find = lambda self, expression: ("done", ["right", []])
pupil.Pupil.call = lambda self, *a: ("done", exercises.Verdict("right", "right!"))
""",
    "equal to everything": """
class Equal(torch.Tensor):
    def __eq__(self, other): return True
    __ne__ = __lt__ = __gt__ = lambda self, other: False
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None): return True
def answer(beta, t):
    return torch.tensor(0.0).as_subclass(Equal)
""",
    "the way out": """
import atexit, os
atexit.register(print, "02.1: right!")
def answer(beta, t):
    os._exit(0)
""",
    "forged messages": """
import os, socket, sys
from tutorial_lib.course.grading import wire
line = wire.Line(socket.socket(fileno=os.dup(int(sys.argv[1]))))
def answer(beta, t):
    for _ in range(20):
        line.send(wire.packed(["done", {"state": "right"}], None))
""",
    "a pickle": """
import os, pickle, socket, sys
from tutorial_lib.course.grading import wire
line = wire.Line(socket.socket(fileno=os.dup(int(sys.argv[1]))))
class Bomb:
    def __reduce__(self): return exec, ("import tutorial_lib.course.exercises as e; e.hacked = 1",)
def answer(beta, t):
    line.send(pickle.dumps(Bomb()))
""",
    "reads the reference on the stack": """
import inspect
def answer(beta, t):
    for frame in inspect.stack():
        names = frame.frame.f_locals
        if "alpha_bar" in names and "slips" in names:
            return names["alpha_bar"] ** 0.5
    return 0.5
""",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_attack_gets_marks(submission, attack):
    submission.run(WRONG)
    shown = submission.run(ATTACKS[attack])
    assert not [o for o in shown if o["output_type"] == "error"], shown
    with suppress(RuntimeError):  # the whole submission is given up, which is as well
        assert not submission.mark("02.1", "answer").right
    assert not hasattr(exercises, "hacked")


def test_what_stands_on_the_stack_of_a_check_would_be_right():
    """So that attack is no straw man."""
    scope: dict = {"torch": torch}
    exec(WRONG + ATTACKS["reads the reference on the stack"], scope)
    assert exercises.verdict("02.1", scope["answer"]).right


def test_a_forbidden_name_is_found_though_the_library_is_rewritten(submission):
    """As such, under another name and in a function that the answer calls."""
    hide = "from tutorial_lib.course.grading import pupil\npupil.names_used = lambda _: set()"
    submission.run(hide)
    same_work = "(schedule, x_0, t, eps)"
    for source in (
        f"def answer{same_work}:\n    return diffusion.q_sample{same_work}",
        "from tutorial_lib.diffusion import q_sample as mine\n"
        f"def answer{same_work}:\n    return mine{same_work}",
        f"def mine{same_work}:\n    return diffusion.q_sample{same_work}\n"
        f"def answer{same_work}:\n    return mine{same_work}",
    ):
        verdict = mark_of(submission, source, "02.3")
        assert "It calls `q_sample`" in verdict.message


def test_a_check_that_needs_the_answers_own_objects_runs_beside_it(submission, monkeypatch):
    """It is said of which exercises that was true; a rewritten library helps there no more."""
    beside = replace(n02.EXERCISES["02.1"], beside=True)
    monkeypatch.setitem(n02.EXERCISES, "02.1", beside)
    submission.run(ATTACKS["rewritten library"])
    assert mark_of(submission, WRONG).state == "wrong"
    assert submission.trusted == []
    assert "takes too long" in mark_of(submission, BUSY, seconds=3).message
    assert mark_of(submission, RIGHT).right
    assert submission.trusted == ["02.1"]


def test_nothing_that_is_handed_in_runs_beside_the_judge(submission):
    """Not even where its names are read: in decorators, defaults, annotations and imports."""
    source = """
import tutorial_lib, antigravity
def spring(f=None):
    from tutorial_lib.course import exercises
    exercises.hacked = True
    return f
@spring
def answer(beta: spring(), t=spring()) -> spring():
    return 1
"""
    assert not mark_of(submission, source).right
    assert not hasattr(exercises, "hacked")


# --- walls


@walled
def test_nothing_is_within_reach_but_python_and_the_library(honest, tmp_path):
    secret = tmp_path / "gradebook.db"
    secret.write_text("marks")
    seen = f"""
import os, pathlib, socket, tutorial_lib
def failing(do):
    try:
        do()
    except OSError:
        return True
    return False
library = pathlib.Path(tutorial_lib.__file__)
tests = dict(
    gradebook=failing(lambda: open({str(secret)!r}).read()),
    solutions=failing(lambda: os.listdir({str(ROOT / "notebooks")!r})),
    library=failing(lambda: library.write_text("")),
    beside=failing(lambda: library.with_name("mine.py").write_text("")),
    python=failing(lambda: pathlib.Path(os.__file__).with_name("mine.py").write_text("")),
    network=failing(lambda: socket.create_connection(("1.1.1.1", 53), 2)),
    itself=failing(lambda: socket.create_connection(("127.0.0.1", {listening()}), 2)),
    others=[name for name in os.listdir("/proc") if name.isdigit() and int(name) > 9] == [],
    home=failing(lambda: os.listdir(os.path.expanduser("~root"))),
)
import json
print(json.dumps(tests))
"""
    (output,) = honest.run(seen)
    tests = json.loads(output["text"])
    assert all(tests.values()), tests


def listening() -> int:
    """A port of this machine that takes connections."""
    server = socket.create_server(("127.0.0.1", 0))
    OPEN.append(server)
    return server.getsockname()[1]


OPEN: list[socket.socket] = []


def test_without_a_sandbox_nothing_is_graded_unasked(monkeypatch):
    fails = shutil.which("false")
    monkeypatch.setattr(judge.shutil, "which", lambda name: None)
    judge.sandbox.cache_clear()
    with pytest.raises(judge.NoSandbox, match=r"bubblewrap is not installed.*apt install"):
        judge.Judge()
    monkeypatch.setattr(judge.shutil, "which", lambda name: fails)
    with pytest.raises(judge.NoSandbox, match="does not run here"):
        judge.Judge()
    judge.sandbox.cache_clear()


def test_a_process_that_does_not_begin_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(judge.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(judge.sys, "executable", shutil.which("false"))
    with pytest.raises(RuntimeError, match="the process of this submission was ended"):
        judge.Judge(sandboxed=False)
    assert not list(tmp_path.iterdir())


def test_a_process_that_the_machine_refuses_leaves_nothing(monkeypatch, tmp_path):
    pair = socket.socketpair()

    def refused(*command, **options):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(judge.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(judge.socket, "socketpair", lambda: pair)
    monkeypatch.setattr(judge.subprocess, "Popen", refused)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        judge.Judge(sandboxed=False)
    assert not list(tmp_path.iterdir())
    assert [end.fileno() for end in pair] == [-1, -1], "both are closed"


# --- messages


def test_what_is_sent_arrives_as_it_was():
    said = [None, True, 3, 0.5, float("inf"), "x", (1, [2.0]), {"a": 1, 2: "b"}]
    found = wire.unpacked(wire.packed(said, None), None)
    assert found == said
    for value in (torch.arange(6).view(2, 3).T, torch.tensor(1.5, dtype=torch.float64)):
        back = wire.unpacked(wire.packed([value], None), None)[0]
        assert back.dtype == value.dtype
        torch.testing.assert_close(back, value)
    array = wire.unpacked(wire.packed([value.numpy()], None), None)[0]
    assert array.dtype == "float64" and array == 1.5
    generator = torch.Generator().manual_seed(3)
    own, beta = wire.unpacked(wire.packed([generator, linear(1000)], None), None)
    assert torch.rand(1, generator=own) == torch.rand(1, generator=generator)
    torch.testing.assert_close(beta.beta, linear(1000).beta)
    other = wire.unpacked(wire.packed([object()], None), None)[0]
    assert type(other).__name__ == "object"
    assert wire.unpacked(wire.packed([len], lambda f: 7), lambda n: ("borrowed", n)) == [
        ("borrowed", 7)
    ]


def test_a_message_has_an_end():
    ours, theirs = socket.socketpair()
    theirs.sendall((wire.LARGEST + 1).to_bytes(8, "big"))
    with pytest.raises(ValueError, match="are allowed"):
        wire.Line(ours).receive()
    theirs.close()
    with pytest.raises(EOFError):
        wire.Line(ours).receive()
    ours.close()
