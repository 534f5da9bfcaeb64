"""Changes single places of the package and sees whether a test notices.

    python tests/mutants/mutate.py list --count=60 --seed=0  # the defaults
    python tests/mutants/mutate.py run --workers=2 --output=tests/mutants/results.json

A mutant differs from the package in one operator or one constant, drawn at random over the rooms
`layers`, `tasks`, `training` and `decoding`. It is written into a copy of the checkout, and tests
are run there until one fails: first those that import the changed module, then those of its room,
then those of the rooms that use it. A result names the test that failed, or says that none did.
Results are kept as they come, so that the same command goes on after a stop.
"""

import argparse
import ast
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import queue
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROOMS = ("layers", "tasks", "training", "decoding")
# Where a room is used; tried for what survives the tests of the room itself.
USERS = {
    "layers": ["conformance", "models", "interop", "tasks"],
    "tasks": ["experiment", "test_caption_doors.py", "test_sequences.py", "test_recipes.py"],
    "training": ["experiment", "faults", "multiprocess", "startup", "test_recipes.py"],
    "decoding": ["tasks", "models", "test_caption_doors.py", "test_predict.py"],
}
SECONDS = 900  # a mutant that hangs is noticed, too

COMPARISONS = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip
ARITHMETIC = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "+",
    ast.Pow: "*", ast.MatMult: "+", ast.BitAnd: "|", ast.BitOr: "&",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, order=True)
class Mutant:
    """One change of the package.

    Attributes:
        file: Path below the checkout.
        line: Number of the line, from 1.
        start: Offset in bytes of what is replaced.
        end: Offset behind it.
        before: What stands there.
        after: What is written there.
    """

    file: str
    line: int
    start: int
    end: int
    before: str
    after: str

    @property
    def name(self) -> str:
        """Names the mutant: file, line and change."""
        return f"{self.file}:{self.line}: {self.before} -> {self.after}"


def mutants_of(file: pathlib.Path) -> list[Mutant]:
    """Returns all mutants of a file.

    Messages, annotations, decorators and docstrings are left alone: what is shown to people is
    compared with the eye, and no test of arithmetic would notice it.
    """
    raw = file.read_bytes()
    starts = [0]
    for line in raw.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []

    def place(node: ast.AST) -> tuple[int, int]:
        begin = starts[node.lineno - 1] + node.col_offset
        return begin, starts[node.end_lineno - 1] + node.end_col_offset

    def add(line: int, begin: int, end: int, after: str) -> None:
        before = raw[begin:end].decode()
        if before != after:
            name = str(file.relative_to(ROOT))
            found.append(Mutant(name, line, begin, end, before, after))

    def operator(left: ast.AST, right: ast.AST, after: str, symbol: str) -> None:
        """Replaces the operator between two operands, wherever spaces and brackets stand."""
        begin, end = place(left)[1], place(right)[0]
        gap = raw[begin:end].decode()
        at = gap.find(symbol)
        if at >= 0 and "#" not in gap:
            add(left.end_lineno, begin + at, begin + at + len(symbol), after)

    def visit(node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for statement in node.body:
                visit(statement, True)
            return
        if isinstance(node, ast.ClassDef):
            for statement in node.body:
                visit(statement, False)
            return
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert):
            return
        if isinstance(node, ast.AnnAssign):
            if node.value is not None and inside:
                visit(node.value, inside)
            return
        if inside:
            change(node)
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    def change(node: ast.AST) -> None:
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            kind = type(node.ops[0])
            operator(node.left, node.comparators[0], COMPARISONS[kind], SYMBOLS[kind])
        elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
            kind = type(node.op)
            operator(node.left, node.right, ARITHMETIC[kind], SYMBOLS[kind])
        elif isinstance(node, ast.BoolOp):
            word = "or" if isinstance(node.op, ast.And) else "and"
            operator(node.values[0], node.values[1], word, "and" if word == "or" else "or")
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
            begin, end = place(node)
            operand = raw[place(node.operand)[0] : end].decode()
            add(node.lineno, begin, end, f"({operand})")
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            add(node.lineno, *place(node), str(not node.value))
        elif isinstance(node, ast.Constant) and isinstance(node.value, int):
            add(node.lineno, *place(node), str(node.value + 1))
        elif isinstance(node, ast.Constant) and isinstance(node.value, float):
            add(node.lineno, *place(node), repr(2 * node.value if node.value else 1.0))

    for statement in ast.parse(raw).body:
        visit(statement, False)
    return found


SYMBOLS = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
    ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
    ast.Pow: "**", ast.MatMult: "@", ast.BitAnd: "&", ast.BitOr: "|",
}  # fmt: skip


def sample(count: int, seed: int) -> list[Mutant]:
    """Draws mutants, all places of the four rooms being equally likely."""
    every = []
    for room in ROOMS:
        for file in sorted((ROOT / "rcnn_jax" / room).rglob("*.py")):
            every += mutants_of(file)
    return sorted(random.Random(seed).sample(sorted(every), count))


def stages(mutant: Mutant) -> list[list[str]]:
    """Returns the tests that may notice a mutant, the likeliest first."""
    parts = pathlib.Path(mutant.file).with_suffix("").parts
    module, room, stem = ".".join(parts), parts[1], parts[-1]
    imported = re.compile(
        rf"{re.escape(module)}\b|from {re.escape('.'.join(parts[:-1]))} import .*\b{stem}\b"
    )
    tests = sorted((ROOT / "tests" / room).rglob("test_*.py"))
    direct = [file for file in tests if imported.search(file.read_text())]
    direct.sort(key=lambda file: file.stem != f"test_{stem}")
    first = [str(file.relative_to(ROOT)) for file in direct[:4]]
    return [stage for stage in (first, [f"tests/{room}"]) if stage] + [
        [f"tests/{user}"] for user in USERS[room]
    ]


def try_out(mutant: Mutant, copy: pathlib.Path, python: str) -> dict[str, str]:
    """Runs tests on a mutant until one fails.

    Args:
        mutant: The change.
        copy: A copy of the checkout, which is changed and changed back.
        python: The interpreter of an environment with the test extra.

    Returns:
        `mutant`, its name, and `caught`, the test that failed; empty where none did.
    """
    target = copy / mutant.file
    original = target.read_bytes()
    changed = original[: mutant.start] + mutant.after.encode() + original[mutant.end :]
    target.write_bytes(changed)
    command = [python, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--tb=no"]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        for tests in stages(mutant):
            try:
                done = subprocess.run(
                    [*command, *tests],
                    cwd=copy,
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=SECONDS,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return {"mutant": mutant.name, "caught": f"no end within {SECONDS} s: {tests[0]}"}
            if done.returncode:
                named = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
                return {"mutant": mutant.name, "caught": named[1] if named else tests[0]}
    finally:
        target.write_bytes(original)
    return {"mutant": mutant.name, "caught": ""}


def run(mutants: list[Mutant], output: pathlib.Path, workers: int, python: str) -> None:
    """Tries mutants out beside each other and keeps each result as it comes."""
    known = json.loads(output.read_text()) if output.exists() else []
    done = {entry["mutant"] for entry in known}
    lock = threading.Lock()
    copies: queue.Queue[pathlib.Path] = queue.Queue()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(workers):
            copy = pathlib.Path(folder) / str(number)
            ignored = shutil.ignore_patterns(".git", ".venv*", "__pycache__", "runs")
            shutil.copytree(ROOT, copy, ignore=ignored)
            copies.put(copy)

        def one(mutant: Mutant) -> None:
            copy = copies.get()
            try:
                result = try_out(mutant, copy, python)
            finally:
                copies.put(copy)
            with lock:
                known.append(result)
                known.sort(key=lambda entry: entry["mutant"])
                output.write_text(json.dumps(known, indent=1) + "\n")
                print(result["caught"] or "SURVIVED", "|", result["mutant"], flush=True)

        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            list(pool.map(one, [mutant for mutant in mutants if mutant.name not in done]))


def main() -> None:
    """Lists or runs mutants."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["list", "run"])
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("mutants.json"))
    given = parser.parse_args()
    mutants = sample(given.count, given.seed)
    if given.action == "list":
        print("\n".join(mutant.name for mutant in mutants))
    else:
        run(mutants, given.output, given.workers, given.python)


if __name__ == "__main__":
    main()
