"""What an installation takes: megabytes and time of import by distribution.

    python tests/benchmarks/install.py --output=install.json

Sizes are those of the files that pip recorded for a distribution; of all that `pip install
rcnn-jax` brings, extras are left out. Times are of `import NAME` in a process of its own, without
that of Python itself, the least of a few; what one imports counts for each that imports it. The
start of commands is measured as `python -m rcnn_jax.NAME --help`.
"""

import argparse
import importlib.metadata
import json
import pathlib
import re
import subprocess
import sys
import time

MEGABYTE = 2**20
COMMANDS = ("train", "evaluate", "predict", "summary", "report", "figures")


def required(name: str, known: dict[str, importlib.metadata.Distribution]) -> None:
    """Collects a distribution and all that it requires without extras."""
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return
    key = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
    if key in known:
        return
    known[key] = distribution
    for entry in distribution.requires or []:
        if "extra ==" not in entry:
            required(re.split(r"[^\w.-]", entry, maxsplit=1)[0], known)


def size(distribution: importlib.metadata.Distribution) -> int:
    """Returns the bytes of the files of a distribution."""
    paths = (pathlib.Path(str(file.locate())) for file in distribution.files or [])
    return sum(path.stat().st_size for path in paths if path.is_file())


def top_level(distribution: importlib.metadata.Distribution) -> str | None:
    """Returns the package that a distribution is imported by, or None where it has several."""
    names = {
        file.parts[0]
        for file in distribution.files or []
        if len(file.parts) > 1 and file.name == "__init__.py" and file.parts[0].isidentifier()
    }
    return names.pop() if len(names) == 1 else None


def seconds(arguments: list[str], repeats: int) -> float:
    """Returns the least time of a process, in seconds."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
        times.append(time.perf_counter() - begin)
    return min(times)


def main() -> None:
    """Measures, prints tables and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("install.json"))
    given = parser.parse_args()
    known: dict[str, importlib.metadata.Distribution] = {}
    required("rcnn-jax", known)
    empty = seconds(["-c", "pass"], given.repeats)
    rows = []
    for name, distribution in known.items():
        module = top_level(distribution)
        row = {
            "name": name,
            "version": distribution.version,
            "megabytes": size(distribution) / MEGABYTE,
        }
        if module and row["megabytes"] > 1:
            row["import_s"] = seconds(["-c", f"import {module}"], given.repeats) - empty
        rows.append(row)
    rows.sort(key=lambda row: -row["megabytes"])
    commands = {
        name: seconds(["-m", f"rcnn_jax.{name}", "--help"], given.repeats) for name in COMMANDS
    }
    result = {"python_s": empty, "distributions": rows, "help_s": commands}
    result["megabytes"] = sum(row["megabytes"] for row in rows)
    given.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{len(rows)} distributions, {result['megabytes']:.0f} MB; python itself {empty:.2f} s")
    for row in rows[:20]:
        spent = f"{row['import_s']:.2f} s" if "import_s" in row else ""
        print(f"{row['name']:28}{row['megabytes']:8.1f} MB  {spent}")
    for name, spent in commands.items():
        print(f"rcnn_jax.{name} --help  {spent:.2f} s")


if __name__ == "__main__":
    main()
