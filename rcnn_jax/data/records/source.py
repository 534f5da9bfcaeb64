"""Examples read from ArrayRecord files, one decoded at a time."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rcnn_jax.data import spec as spec_lib
from rcnn_jax.data.records import damage as damage_lib
from rcnn_jax.data.records.damage import Damage
from rcnn_jax.data.sources import Example, check_indices, split_name, stack
from rcnn_jax.data.spec import Feature


@dataclasses.dataclass(frozen=True)
class RecordSource:
    """Examples read from ArrayRecord files, one decoded at a time.

    Attributes:
        records: what `tfds.data_source` gives: `__len__`, `__getitem__`, `__getitems__`, and the
            `dataset_info` and `split` that say where they lie.
        features: name to `Feature`; other features of the records are left out.
        damage: what to do about records that cannot be read.
        remedy: what a user can do about them, a clause; may be empty.
    """

    records: Any
    features: Mapping[str, Feature]
    damage: Damage = dataclasses.field(default_factory=Damage)
    remedy: str = ""

    @property
    def name(self) -> str:
        """The data set and split, for messages."""
        return split_name(self.records.dataset_info.name, str(self.records.split))

    def select(self, names: Sequence[str]) -> "RecordSource":
        """The same examples with some of their features, see `rcnn_jax.data.sources.select`."""
        return dataclasses.replace(self, features={name: self.features[name] for name in names})

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Example:
        check_indices(np.asarray([index]), len(self))
        return self._read(index)

    def gather(self, indices: np.ndarray) -> Example:
        """See `Source.gather`.

        Raises:
            DamagedRecordError: for one that cannot be read, where `damage` says to stop.
        """
        check_indices(indices, len(self))
        numbers = indices.tolist()
        examples = self._read_several(numbers)
        mask = np.array([e.get("mask", 1) for e in examples], np.float32)
        batch = {
            name: stack(name, [e[name] for e in examples], mask, numbers, self.name)
            for name in self.features
        }
        return batch if mask.all() else {**batch, "mask": mask}

    def _read_several(self, indices: list[int]) -> list[Example]:
        if not any(self.damage.knows(damage_lib.key(self.records, index)) for index in indices):
            try:
                return [self._decode(record) for record in self.records.__getitems__(indices)]
            except Exception:  # noqa: BLE001 - which record it was, one at a time will tell
                pass
        return [self._read(index) for index in indices]

    def _read(self, index: int) -> Example:
        if not self.damage.knows(damage_lib.key(self.records, index)):
            try:
                return self._decode(self.records[index])
            except (ImportError, MemoryError):
                raise  # of this machine, not of the record
            except Exception as error:  # noqa: BLE001 - decoders raise whatever they like
                record = damage_lib.name_record(self.records, index, error, self.remedy)
                self.damage.meet(record)
        return spec_lib.padding(self.features)

    def _decode(self, record: Mapping[str, Any]) -> Example:
        # The type is the spec's, in every residency.
        return {name: spec_lib.checked(name, f, record[name]) for name, f in self.features.items()}
