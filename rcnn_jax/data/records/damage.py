"""Records that cannot be read: reported, counted, and either fatal or treated as padding.

Damage is found in two places. ArrayRecord keeps a 64-bit hash of the header and of the content of
every chunk, and TFDS writes one record per chunk: changed bytes raise an error in the reader and
never yield another example. A record that was written wrongly, and decodes to something that the
data set does not promise, is found by `rcnn_jax.data.spec.checked`.
"""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rcnn_jax.errors import UserError

CHOICES = ("stop", "skip")

# This many records are reported one by one; a line for each of thousands would hide all else.
_NAMED = 10
_LONGEST_REASON = 200


class DamagedRecordError(UserError):
    """A record cannot be read; the message states which record, its file and the reason.

    Attributes:
        key: Triple (data set, split, index in the split).
        what: The message without advice on what to do.
    """

    def __init__(self, key: tuple[str, str, int], file: str, reason: str, remedy: str = "") -> None:
        """Composes the message.

        Args:
            key: Triple (data set, split, index in the split).
            file: File that holds the record.
            reason: Description of what is wrong with the record.
            remedy: Clause with an alternative to leaving the record out; may be empty.
        """
        self.key = key
        dataset, split, index = key
        self.what = f"record {index} of {dataset} split {split!r} in {file} is damaged: {reason}"
        skip = "--config.data.damaged=skip goes on without such records"
        super().__init__("; ".join(part for part in (self.what, remedy, skip) if part))


def _to_stderr(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)


class Damage:
    """The handling of damaged records, and the damaged records found so far.

    One such object serves all splits of a run and any number of threads. It contains the damaged
    records that this process has read since its start.

    Attributes:
        choice: `stop` raises at the first damaged record; with `skip` damaged records become
            padding.
    """

    def __init__(self, choice: str = "stop", warn: Callable[[str], None] = _to_stderr) -> None:
        """Starts without any damaged record.

        Args:
            choice: `stop` or `skip`.
            warn: Shows one line. The first 10 damaged records are each reported through it once,
                then one line that further ones are only counted.

        Raises:
            ValueError: If `choice` is another one.
        """
        if choice not in CHOICES:
            raise ValueError(f"damaged {choice!r} is not one of {', '.join(CHOICES)}")
        self.choice = choice
        self._warn = warn
        self._met: dict[tuple[str, str, int], str] = {}
        self._lock = threading.RLock()  # Reentrant, because `warn` may use this object.

    @property
    def count(self) -> int:
        """Number of distinct records that were found damaged."""
        return len(self._met)

    def since(self, number: int) -> list[tuple[str, str, int]]:
        """Returns the keys of damaged records in the order in which they were found.

        Args:
            number: Number of records to leave out at the beginning.

        Returns:
            Triples (data set, split, index in the split).
        """
        with self._lock:
            return list(self._met)[number:]

    @property
    def named(self) -> tuple[str, ...]:
        """Messages about the first 10 damaged records, in the order in which they were found."""
        with self._lock:
            return tuple(self._met.values())[:_NAMED]

    def knows(self, key: tuple[str, str, int]) -> bool:
        """Returns whether a record was found damaged before and need not be read again.

        Args:
            key: Triple (data set, split, index in the split).
        """
        return key in self._met

    def meet(self, record: DamagedRecordError) -> None:
        """Counts and reports a damaged record, or raises it.

        Args:
            record: The error that describes the record.

        Raises:
            DamagedRecordError: If `choice` is `stop`; it is `record` itself.
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
    """Returns the key of a record: data set, split, and index in the split.

    Args:
        records: The records as `tfds.data_source` returns them.
        index: Index of the record.
    """
    return records.dataset_info.name, str(records.split), index


def name_record(records: Any, index: int, error: Exception, remedy: str = "") -> DamagedRecordError:
    """Returns the error that describes a record that could not be read.

    Args:
        records: The records as `tfds.data_source` returns them.
        index: Index of the record.
        error: The error that reading the record raised; it becomes the cause.
        remedy: Clause with an alternative to leaving the record out; may be empty.

    Raises:
        FileNotFoundError: If the file of the record no longer exists, in which case the disk is at
            fault and not the record.
        IndexError: If the files hold no record of that index.
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
    """Returns the first line of a library's error message, short enough for one sentence.

    Args:
        error: The error.

    Returns:
        At most 200 characters of the message, after the name of the error's class unless it is a
        `RuntimeError` or a `ValueError`.
    """
    lines = str(error).strip().splitlines() or [""]
    text = lines[0].strip().rstrip(".:")[:_LONGEST_REASON]
    # Other messages are not sentences: that of a KeyError is the key alone.
    plain = isinstance(error, RuntimeError | ValueError) and text
    return text if plain else ": ".join(part for part in (type(error).__name__, text) if part)
