"""Records that cannot be read: named, counted, and fatal or left out by choice.

What is wrong with a record is found in two places. ArrayRecord keeps a 64-bit hash of the header
and of the content of every chunk, and TFDS writes one record a chunk: changed bytes are an error of
the reader, never another example. What then decodes to something that the data set does not
promise, because it was written wrongly, is found by `checked`.
"""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rcnn_jax.errors import UserError

CHOICES = ("stop", "skip")

# So many are named one by one; a line for each of a file's thousands would hide all else.
_NAMED = 10
_LONGEST_REASON = 200


class DamagedRecordError(UserError):
    """A record cannot be read; the message says which, where and why.

    Attributes:
        key: (data set, split, index in the split).
    """

    def __init__(self, key: tuple[str, str, int], file: str, reason: str, remedy: str = "") -> None:
        """Composes the message.

        Args:
            key: (data set, split, index in the split).
            file: that holds the record.
            reason: what is wrong with it.
            remedy: what else can be done than leaving it out, a clause; may be empty.
        """
        self.key = key
        dataset, split, index = key
        self.what = f"record {index} of {dataset} split {split!r} in {file} is damaged: {reason}"
        skip = "--config.data.damaged=skip goes on without such records"
        super().__init__("; ".join(part for part in (self.what, remedy, skip) if part))


def _to_stderr(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)


class Damage:
    """What is done about damaged records, and which ones have been met.

    One such object serves all splits of a run and any number of threads. It knows what this
    process has read since its start.

    Attributes:
        choice: `stop` raises at the first damaged record; with `skip` it becomes padding.
    """

    def __init__(self, choice: str = "stop", warn: Callable[[str], None] = _to_stderr) -> None:
        """Starts with none.

        Args:
            choice: `stop` or `skip`.
            warn: shows one line; the first few damaged records are named through it, once each.

        Raises:
            ValueError: for another choice.
        """
        if choice not in CHOICES:
            raise ValueError(f"damaged {choice!r} is not one of {', '.join(CHOICES)}")
        self.choice = choice
        self._warn = warn
        self._met: dict[tuple[str, str, int], str] = {}
        self._lock = threading.RLock()  # `warn` may ask what has been met

    @property
    def count(self) -> int:
        """How many different records were found damaged."""
        return len(self._met)

    def since(self, number: int) -> list[tuple[str, str, int]]:
        """The keys of damaged records but for the first `number`, in the order they were met."""
        with self._lock:
            return list(self._met)[number:]

    @property
    def named(self) -> tuple[str, ...]:
        """What was said of the first of them, in the order in which they were met."""
        with self._lock:
            return tuple(self._met.values())[:_NAMED]

    def knows(self, key: tuple[str, str, int]) -> bool:
        """Whether a record was found damaged before, and need not be read again."""
        return key in self._met

    def meet(self, record: DamagedRecordError) -> None:
        """Counts and names a damaged record, or stops because of it.

        Raises:
            DamagedRecordError: the record itself, where the choice is `stop`.
        """
        if self.choice == "stop":
            raise record
        with self._lock:
            if record.key in self._met:
                return
            self._met[record.key] = record.what
            if self.count <= _NAMED:
                self._warn(f"{record.what}; it counts as padding")
            elif self.count == _NAMED + 1:
                self._warn(f"more than {_NAMED} records are damaged: further ones are only counted")


def key(records: Any, index: int) -> tuple[str, str, int]:
    """What a record is known by: data set, split, and the index in what `tfds.data_source` gave."""
    return records.dataset_info.name, str(records.split), index


def name_record(records: Any, index: int, error: Exception, remedy: str = "") -> DamagedRecordError:
    """Finds the file of a record that could not be read.

    Args:
        records: what `tfds.data_source` gave.
        index: of the record.
        error: what came of reading it.
        remedy: see `DamagedRecordError`.

    Returns:
        The error that names it, with `error` as its cause.

    Raises:
        FileNotFoundError: if the file is no more there: then the disk is gone, not a record.
    """
    place = index
    for part in records.dataset_info.splits[records.split].file_instructions:
        if place < part.take:
            break
        place -= part.take
    else:
        raise IndexError(f"the files hold no record {index}")
    if not Path(part.filename).exists():
        raise FileNotFoundError(f"the record file {part.filename} is gone") from error
    record = DamagedRecordError(key(records, index), str(part.filename), reason(error), remedy)
    record.__cause__ = error
    return record


def reason(error: BaseException) -> str:
    """The first line of what an error of a library says, not too long for one sentence."""
    lines = str(error).strip().splitlines() or [""]
    text = lines[0].strip().rstrip(".:")[:_LONGEST_REASON]
    # Such texts are no sentences: that of a KeyError is the key alone.
    plain = isinstance(error, RuntimeError | ValueError) and text
    return text if plain else ": ".join(part for part in (type(error).__name__, text) if part)
