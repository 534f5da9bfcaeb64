"""The bar on a terminal that shows how far a long command is."""

import shutil
import sys

import tqdm


def bar(total: int, unit: str, *, shown: bool, done: int = 0) -> tqdm.tqdm:
    """A bar on standard error.

    Args:
        total: When it is full.
        unit: What is counted.
        shown: False where nobody looks: nothing is printed then.
        done: How much was done before.
    """
    return tqdm.tqdm(
        total=total,
        initial=done,
        unit=unit,
        # A terminal that does not tell its width says 0, and a bar of width 0 is none.
        dynamic_ncols=shutil.get_terminal_size((0, 0)).columns > 0,
        ncols=100,
        disable=not shown,
        file=sys.stderr,
    )
