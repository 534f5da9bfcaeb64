"""Progress bar on a terminal for long commands."""

import shutil
import sys

import tqdm


def bar(total: int, unit: str, *, shown: bool, done: int = 0) -> tqdm.tqdm:
    """Makes a progress bar on standard error.

    Args:
        total: Number of units at which the bar is full.
        unit: Name of the unit that is counted.
        shown: Whether the bar is printed. False prints nothing, for output without a reader.
        done: Number of units that were completed before.
    """
    return tqdm.tqdm(
        total=total,
        initial=done,
        unit=unit,
        # A terminal of unknown width reports 0, and a bar of width 0 would be invisible.
        dynamic_ncols=shutil.get_terminal_size((0, 0)).columns > 0,
        ncols=100,
        disable=not shown,
        file=sys.stderr,
    )
