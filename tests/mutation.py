"""Mutation testing: changes the code in one place at a time and asks whether a test notices.

    python -m tests.mutation --sample 20 forecast/evaluation/counts.py

A mutant lives in a forked process of its own, in memory only: no file is ever changed.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib
import importlib.machinery
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
# Imported once, before the forks; nothing of our own code, which each mutant imports anew.
PRELOADED = ("torch", "torchvision", "kornia", "numpy", "scipy.optimize", "pandas", "xarray")
EVALUATION = "tests/unit/forecast/evaluation"
MODEL = "tests/unit/forecast/model"
# Quick tests of a file that does not lie beside its own unit test, or not only there.
TESTS: dict[str, tuple[str, ...]] = {
    "forecast/evaluation/counts.py": (
        f"{EVALUATION}/test_counts.py",
        "tests/property/test_counts.py",
    ),
    "forecast/evaluation/scores.py": (
        f"{EVALUATION}/test_scores.py",
        f"{EVALUATION}/test_counts.py",
    ),
    "forecast/evaluation/scoring.py": (
        f"{EVALUATION}/test_scores.py",
        f"{EVALUATION}/test_wrong_cells.py",
    ),
    "forecast/model/heads.py": (f"{MODEL}/test_visibility.py", "tests/property/test_kinematics.py"),
    "forecast/model/learned_horizon.py": (
        f"{MODEL}/test_visibility.py",
        "tests/property/test_kinematics.py",
    ),
    "forecast/model/query_interaction.py": (
        "tests/parity/test_query_interaction.py",
        f"{MODEL}/test_no_agents.py",
    ),
    "forecast/model/scene_attention.py": (
        f"{MODEL}/test_scene_attention.py",
        f"{MODEL}/scene/test_context.py",
        "tests/property/test_rollout.py",
    ),
    "forecast/model/scene/se2.py": ("tests/property/test_se2.py",),
    "forecast/model/scene/warp.py": ("tests/property/test_warp.py",),
    "forecast/model/tracking/lifecycle.py": (
        f"{MODEL}/test_tracker.py",
        f"{MODEL}/tracking/test_components.py",
    ),
    "forecast/model/tracking/tracks.py": ("tests/property/test_tracks.py",),
}
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt},
    **{ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is},
    **{ast.In: ast.NotIn, ast.NotIn: ast.In},
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult},
    **{ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd},
}


def mutants(tree: ast.Module) -> Iterator[tuple[str, ast.Module]]:
    """Every mutant of a module, with the line and the change in words."""
    for index, node in enumerate(_code(tree)):
        for variant in range(len(_changes(node))):
            changed = copy.deepcopy(tree)
            place = _code(changed)[index]
            before, replacement = ast.unparse(place), _changes(place)[variant]
            _apply(changed, place, replacement)
            yield f"{place.lineno}: {before} -> {ast.unparse(replacement)}", changed


def _code(tree: ast.Module) -> list[ast.expr | ast.Return]:
    """What runs inside functions: annotations and docstrings are not mutated."""
    found: list[ast.expr | ast.Return] = []
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    for statement in (s for function in functions for s in function.body):
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            continue  # reached by itself
        for node in ast.walk(statement):
            if isinstance(node, ast.Return) or (isinstance(node, ast.expr) and _changes(node)):
                found.append(node)
    return found


def _changes(node: ast.AST) -> list[ast.AST]:
    """What may stand in the place of a node."""
    match node:
        case ast.Compare(left, [operator], right) if type(operator) in COMPARISONS:
            return [ast.Compare(left, [COMPARISONS[type(operator)]()], right)]
        case ast.BinOp(left, operator, right) if type(operator) in OPERATORS:
            return [ast.BinOp(left, OPERATORS[type(operator)](), right)]
        case ast.BoolOp(operator, values):
            return [ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)]
        case ast.UnaryOp(ast.Not() | ast.Invert() | ast.USub(), operand):
            return [operand]
        case ast.Constant(bool() as value):
            return [ast.Constant(not value)]
        case ast.Constant(int() | float() as value):
            return [ast.Constant(value + 1), ast.Constant(value - 1)]
        case ast.Slice(None, ast.expr() as upper, step):
            return [ast.Slice(ast.Constant(1), upper, step)]
        case ast.Slice(ast.expr(), upper, step):
            return [ast.Slice(None, upper, step)]
        case ast.Return(ast.expr() as value) if not isinstance(value, ast.Constant):
            return [ast.Return(ast.Constant(None))]
    return []


def _apply(tree: ast.Module, node: ast.AST, replacement: ast.AST) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is node:
                setattr(parent, name, replacement)
            elif isinstance(value, list):
                value[:] = [replacement if item is node else item for item in value]
    ast.copy_location(replacement, node)
    ast.fix_missing_locations(tree)


def killed(path: Path, code: CodeType, tests: Sequence[str], limit: int) -> bool:
    """Whether a test fails, or hangs, with other code for a file."""
    child = os.fork()
    if child == 0:
        os.setsid()
        result = 1
        with open(os.devnull, "w") as nowhere, contextlib.suppress(BaseException):
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            _substitute(path, code)
            result = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
        os._exit(result)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(limit)
    _, status = os.waitpid(child, 0)
    signal.alarm(0)
    return status != 0


def _substitute(path: Path, code: CodeType) -> None:
    original = importlib.machinery.SourceFileLoader.get_code

    def get_code(loader: Any, name: str) -> CodeType | None:
        return code if Path(loader.path).resolve() == path else original(loader, name)

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[assignment]


def tests_of(file: str) -> list[str]:
    """The quick tests of a file: those named above, or its unit test."""
    beside = Path("tests/unit", Path(file).parent, f"test_{Path(file).name}")
    tests = TESTS.get(file, (str(beside),))
    if missing := [test for test in tests if not (ROOT / test).exists()]:
        raise SystemExit(f"{file}: no {', '.join(missing)}; name its tests in tests/mutation.py")
    return list(tests)


def run(file: str, sample: int, seed: int, limit: int, seconds: float) -> None:
    """Tries mutants of one file and prints the survivors."""
    path, tests = (ROOT / file).resolve(), tests_of(file)
    tree = ast.parse(path.read_text())
    if killed(path, compile(tree, path, "exec"), tests, limit):
        raise SystemExit(f"{file}: its tests do not pass as it is")
    every = list(mutants(tree))
    end, tried, survivors = time.monotonic() + seconds, 0, 0
    for words, changed in random.Random(seed).sample(every, min(sample, len(every))):
        if time.monotonic() > end:
            break
        tried += 1
        if not killed(path, compile(changed, path, "exec"), tests, limit):
            survivors += 1
            print(f"survived {file}:{words}", flush=True)
    counts = f"{tried - survivors} killed, {survivors} survived"
    print(f"{file}: {tried} of {len(every)} tried, {counts}", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--sample", type=int, default=20, help="mutants of a file, at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=120, help="seconds for the tests of a mutant")
    parser.add_argument("--seconds", type=float, default=600, help="seconds for a file")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)
    for name in PRELOADED:
        importlib.import_module(name)
    for file in options.files:
        run(file, options.sample, options.seed, options.limit, options.seconds)


if __name__ == "__main__":
    main()
