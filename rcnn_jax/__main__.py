"""Lists the commands of the package and the keys of a config.

python -m rcnn_jax                    lists the commands
python -m rcnn_jax train --help       is the same as python -m rcnn_jax.train --help
python -m rcnn_jax keys               lists all keys of a config with defaults and meanings
python -m rcnn_jax keys optimizer     lists the keys of a section, or with this word in their names
"""

import ast
import pathlib
import runpy
import sys

from rcnn_jax.errors import UsageError, nearest

_KEYS = "keys"


def commands() -> dict[str, str]:
    """Returns the commands by name, each with the first line of its docstring.

    The source files are parsed; nothing is imported.
    """
    here = pathlib.Path(__file__).parent
    summaries = {}
    for file in sorted([*here.glob("*.py"), *here.glob("*/__main__.py")]):
        name = file.stem if file.parent == here else file.parent.name
        text = file.read_text(encoding="utf-8")
        if not name.startswith("_") and '\nif __name__ == "__main__":\n' in text:
            about = ast.get_docstring(ast.parse(text)) or ""
            summaries[name] = about.partition("\n")[0]
    return summaries


def listing() -> str:
    """Returns the list of commands as text."""
    known = commands()
    wide = max(map(len, known))
    lines = [f"    python -m rcnn_jax.{name:<{wide}}  {about}" for name, about in known.items()]
    return "\n".join(
        [
            "The commands:",
            "",
            *lines,
            "",
            "Each says more with --help. The keys of a config, with their defaults, are printed by",
            "python -m rcnn_jax keys; in Python, see rcnn_jax.load and rcnn_jax.open_source.",
        ]
    )


def main(words: list[str]) -> int:
    """Lists the commands, prints the keys of a config, or runs a command.

    Args:
        words: The command line without the program's name.

    Returns:
        The exit code: 0, or 2 if there is no such command or key.
    """
    name = words[0].removeprefix("rcnn_jax.") if words else "--help"
    if name in ("--help", "-help", "-h", "--h"):
        print(listing())
    elif name == _KEYS:
        # Imported here because only this branch reads the schema.
        from rcnn_jax.configuration.key_listing import key_listing

        try:
            print(key_listing(words[1:]))
        except UsageError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
    elif name in commands():
        sys.argv = [f"rcnn_jax.{name}", *words[1:]]
        runpy.run_module(f"rcnn_jax.{name}", run_name="__main__", alter_sys=True)
    else:
        known = [*commands(), _KEYS]
        print(f"error: there is no command {name!r}: {nearest(name, known, 20)}.", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
