"""Exercises with a check that names the mistake: `check` and `hint`.

The entries stand in one module a chapter, each under its key: 6.3.2 is the second
exercise of notebook 6.3. Nothing here is secret: the reference is the library.
"""

import copy
import dis
import importlib
import signal
import threading
import time
from _thread import interrupt_main
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

CHAPTERS = {
    "1": "ann",
    "2": "basics",
    "3": "cnn",
    "6": "detection",
    "7": "segmentation",
    "8": "keypoints",
    "9": "gan",
}
SECONDS = 10.0  # that an answer may take, for all cases together
_hints_given: Counter[str] = Counter()


@dataclass(frozen=True)
class Case:
    """One input of an exercise."""

    arguments: Mapping[str, Any]  # name -> value, in the order of the signature
    question: str = (
        ""  # asked when an answer raises here: "what is the area of a point?"
    )


@dataclass(frozen=True)
class Exercise:
    """What `check` and `hint` know of one exercise.

    A known mistake is recognised by its results alone, so the cases must tell all
    mistakes apart, from one another and from the reference.
    """

    minutes: int
    stars: int  # 1 to 3
    cases: Callable[[], list[Case]]  # always the same; what is random in them is seeded
    reference: Callable
    against: str  # what the reference is, as "torchvision.ops.box_iou"
    mistakes: Mapping[str, Callable]  # sentence -> the function that makes the mistake
    hints: tuple[str, ...]
    # how an answer is called: `play(answer, *arguments)`; it may do what it likes with
    # its arguments, and returns what is compared
    play: Callable | None = None
    rtol: float = 1e-5
    atol: float = 1e-6


@dataclass
class _Run:
    """What an answer did on the cases, up to the first that raised."""

    results: list[Any] = field(default_factory=list)
    error: Exception | None = None
    changed: str = ""  # the argument that it changed in place
    too_slow: bool = False


def check(key: str, answer: Callable) -> None:
    """Print how `answer` does in the exercise `key`, such as "6.3.1"; never raises.

    The verdict is the first of these that holds: not started; raised; too slow; changes
    its input; wrong type, shape or dtype; a known mistake; the first case in which it
    differs from the reference; right.
    """
    try:
        exercise = find(key)
    except KeyError as error:
        print(error.args[0])
        return
    print(f"{key}: {judge(exercise, answer)}")


def hint(key: str) -> None:
    """Print one more hint for the exercise `key` at each call; never raises."""
    try:
        hints = find(key).hints
    except KeyError as error:
        print(error.args[0])
        return
    place = _hints_given[key]
    _hints_given[key] += 1
    if place < len(hints):
        print(f"{key}, hint {place + 1} of {len(hints)}: {hints[place]}")
    else:
        print(f"{key}: no more hints. A solution is in the folded cell below.")


def entries() -> dict[str, Exercise]:
    """Return all exercises of the course, by key."""
    found = {}
    for name in CHAPTERS.values():
        found |= importlib.import_module(f"utils.exercises.{name}").EXERCISES
    return found


def find(key: str) -> Exercise:
    """Return the exercise `key`.

    Raises:
        KeyError: There is none; the message names those of its chapter.
    """
    name = CHAPTERS.get(str(key).partition(".")[0])
    there = importlib.import_module(f"utils.exercises.{name}").EXERCISES if name else {}
    if key not in there:
        known = ", ".join(there) or "none in this chapter"
        raise KeyError(f"there is no exercise {key!r}; there are: {known}")
    return there[key]


def judge(exercise: Exercise, answer: Any, seconds: float = SECONDS) -> str:
    """Return the verdict on `answer`: "not started", "right ...", or what is wrong.

    Args:
        exercise: Its entry.
        answer: What the reader wrote.
        seconds: That it may take, for all cases together.
    """
    if not callable(answer):
        return f"give the function itself, without calling it: {_kind(answer)} came."
    if _is_stub(answer):
        return "not started"
    cases = exercise.cases()
    run = _run(exercise, answer, seconds)
    if run.too_slow:
        return (
            f"not yet. It was stopped after {seconds:g} seconds in case "
            f"{len(run.results) + 1} of {len(cases)}: does a loop never end?"
        )
    if run.error is not None:
        case = cases[len(run.results)]
        said = str(run.error).strip().partition("\n")[0][:200]
        asked = f": {case.question}" if case.question else ""
        return f"raised {type(run.error).__name__} ({said}) for {_shown(case)}{asked}"
    if run.changed:
        return f"not yet. It changes its input `{run.changed}`: work on a copy."
    expected = _run(exercise, exercise.reference, float("inf")).results
    for case, came, wanted in zip(cases, run.results, expected, strict=True):
        if problem := _wrong_kind(came, wanted):
            return f"not yet. {problem} The case: {_shown(case)}"
    for sentence, mistake in exercise.mistakes.items():
        made = _run(exercise, mistake, float("inf"))
        if made.error is None and all(
            _equal(came, wrong, exercise)
            for came, wrong in zip(run.results, made.results, strict=True)
        ):
            return f"not yet. {sentence}"
    differ = [
        place
        for place, (came, wanted) in enumerate(zip(run.results, expected, strict=True))
        if not _equal(came, wanted, exercise)
    ]
    if differ:
        first = differ[0]
        return (
            f"not yet, {len(differ)} of {len(cases)} cases differ. The first: "
            f"{_shown(cases[first])}: "
            f"{_difference(run.results[first], expected[first], exercise)}"
        )
    return f"right ({len(cases)} cases, as {exercise.against})"


def _is_stub(answer: Callable) -> bool:
    """Tell whether a function, or a method of a class, has the body `...`."""

    def stub(): ...

    def steps(function: Callable) -> list[tuple[str, Any]]:
        return [(step.opname, step.argval) for step in dis.get_instructions(function)]

    parts = vars(answer).values() if isinstance(answer, type) else [answer]
    return any(
        hasattr(part, "__code__") and steps(part) == steps(stub) for part in parts
    )


def _run(exercise: Exercise, answer: Callable, seconds: float) -> _Run:
    """Call `answer` on each case; neither the cases nor random numbers are changed."""
    run, finished, stopped = _Run(), threading.Event(), threading.Event()

    def stop() -> None:
        if not finished.is_set():
            stopped.set()
            interrupt_main()

    here = threading.current_thread() is threading.main_thread()
    timer = threading.Timer(seconds, stop) if here and seconds < 1e6 else None
    started, numpy_state = time.monotonic(), np.random.get_state()
    interrupts = signal.getsignal(signal.SIGINT)
    try:
        if timer:
            # a program in the background may ignore interrupts
            signal.signal(signal.SIGINT, signal.default_int_handler)
            timer.daemon = True
            timer.start()
        with torch.random.fork_rng(devices=[]):
            for case in exercise.cases():
                torch.manual_seed(0)
                np.random.seed(0)
                given = copy.deepcopy(dict(case.arguments))
                if exercise.play:
                    result = exercise.play(answer, *given.values())
                else:
                    result = answer(*given.values())
                    for name, value in case.arguments.items():
                        if not _same(given[name], value):
                            run.changed = name
                run.results.append(copy.deepcopy(_plain(result)))
    except Exception as error:  # whatever the reader's code raises is the verdict
        run.error = error
    except KeyboardInterrupt:
        if not stopped.is_set():
            raise  # the reader's own
    finally:
        finished.set()
        if timer:
            timer.cancel()
            signal.signal(signal.SIGINT, interrupts or signal.SIG_DFL)
        np.random.set_state(numpy_state)
    run.too_slow = stopped.is_set() or time.monotonic() - started > seconds
    return run


def _plain(value: Any) -> Any:
    """Return `value` with arrays as tensors, and what is one number as a number."""
    if isinstance(value, np.ndarray):
        value = torch.as_tensor(value.copy())
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return value.item() if value.ndim == 0 else value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        return type(value)(_plain(part) for part in value)
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return value


def _same(one: Any, other: Any) -> bool:
    """Tell whether an argument is as it was."""
    if isinstance(one, torch.Tensor | np.ndarray):
        one, other = torch.as_tensor(one), torch.as_tensor(other)
        return one.shape == other.shape and bool(
            ((one == other) | ((one != one) & (other != other))).all()
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            _same(one[name], other[name]) for name in one
        )
    if isinstance(one, int | float | str | bool | type(None)):
        return one == other or one != one
    return True


def _equal(came: Any, wanted: Any, exercise: Exercise) -> bool:
    """Tell whether two results of one kind are equal, within the tolerance."""
    if _wrong_kind(came, wanted):
        return False
    if isinstance(wanted, tuple | list):
        return all(_equal(c, w, exercise) for c, w in zip(came, wanted, strict=True))
    if isinstance(wanted, dict):
        return all(_equal(came[name], wanted[name], exercise) for name in wanted)
    if not isinstance(wanted, torch.Tensor | float | int):
        return came == wanted
    try:
        torch.testing.assert_close(
            torch.as_tensor(came).double(),
            torch.as_tensor(wanted).double(),
            rtol=exercise.rtol,
            atol=exercise.atol,
            equal_nan=True,
        )
    except AssertionError:
        return False
    return True


def _kind(value: Any) -> str:
    """Say what `value` is: "a tuple of 2", "a float tensor [2, 3]"."""
    match value:
        case None:
            return "None"
        case bool():
            return "True or False"
        case int() | float():
            return "a number"
        case torch.Tensor():
            return f"{_number_kind(value)} tensor or array {list(value.shape)}"
        case tuple() | list():
            return f"a {type(value).__name__} of {len(value)}"
        case dict():
            return f"a dict with {', '.join(map(repr, value)) or 'nothing in it'}"
    return f"{type(value).__name__} ({str(value)[:40]})"


def _number_kind(value: torch.Tensor) -> str:
    if value.dtype == torch.bool:
        return "a bool"
    return "a float" if value.is_floating_point() else "an integer"


def _within(place: str, problem: str) -> str:
    """Say where a problem is that was found inside a part of the result."""
    inner, nested, rest = problem.partition(" of the result: ")
    if nested:
        return f"{inner} of {place} of the result: {rest}"
    return f"In {place} of the result: {problem}"


def _wrong_kind(came: Any, wanted: Any) -> str:
    """Return a sentence if the types, shapes or dtypes do not fit, else ""."""
    if came is None and wanted is not None:
        return "None came: does your function end in `return`?"
    numbers = int | float
    if isinstance(wanted, tuple | list):
        fits = isinstance(came, tuple | list) and len(came) == len(wanted)
        if fits:
            found = map(_wrong_kind, came, wanted)
            where = [_within(f"place {i}", f) for i, f in enumerate(found) if f]
            return where[0] if where else ""
    elif isinstance(wanted, dict):
        fits = isinstance(came, dict) and came.keys() == wanted.keys()
        if fits:
            found = {name: _wrong_kind(came[name], wanted[name]) for name in wanted}
            where = [_within(repr(name), f) for name, f in found.items() if f]
            return where[0] if where else ""
    elif isinstance(wanted, torch.Tensor):
        fits = isinstance(came, torch.Tensor) and (
            came.shape == wanted.shape and _number_kind(came) == _number_kind(wanted)
        )
    elif isinstance(wanted, numbers) and not isinstance(wanted, bool):
        fits = isinstance(came, numbers) and not isinstance(came, bool)
    else:
        fits = type(came) is type(wanted)
    expected = _kind(wanted)
    return (
        ""
        if fits
        else f"{expected[0].upper()}{expected[1:]} was expected, {_kind(came)} came."
    )


def _shown(case: Case) -> str:
    """Write the arguments of a case, the large ones by their shape alone."""
    return ", ".join(
        f"{name} = {_written(value)}" for name, value in case.arguments.items()
    )


def _written(value: Any, most: int = 160) -> str:
    value = _plain(value)
    if isinstance(value, torch.Tensor):
        if value.numel() > 24:
            return f"<{_kind(value)}>"
        return _written(value.tolist())
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple | list):
        inside = ", ".join(_written(part) for part in value)
        text = f"[{inside}]" if isinstance(value, list) else f"({inside})"
    elif isinstance(value, dict):
        inside = ", ".join(f"{k!r}: {_written(v)}" for k, v in value.items())
        text = f"{{{inside}}}"
    else:
        text = repr(value)
    return text if len(text) <= most else f"{text[:most]} ..."


def _difference(came: Any, wanted: Any, exercise: Exercise) -> str:
    """Write what came and what was expected, of large results the first difference."""
    large = len(_written(wanted)) > 60 or "<" in _written(wanted)
    if isinstance(wanted, dict) or (isinstance(wanted, tuple | list) and large):
        places = wanted if isinstance(wanted, dict) else range(len(wanted))
        place = next(i for i in places if not _equal(came[i], wanted[i], exercise))
        where = f"in {place!r}" if isinstance(wanted, dict) else f"in place {place}"
        return f"{where}, {_difference(came[place], wanted[place], exercise)}"
    if isinstance(wanted, torch.Tensor) and wanted.numel() > 24:
        gap = (came.double() - wanted.double()).abs().nan_to_num(torch.inf)
        place = np.unravel_index(int(gap.argmax()), tuple(gap.shape))
        where = "[" + ", ".join(map(str, place)) + "]"
        worst = came[place].item(), wanted[place].item()
        return f"at {where} {_difference(*worst, exercise)}"
    one, other = _written(came), _written(wanted)
    if one == other:  # to six digits
        one, other = repr(came), repr(wanted)
    return f"{one} came, {other} was expected."
