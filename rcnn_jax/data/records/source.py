"""Examples read from ArrayRecord files and decoded one at a time."""

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
    """A source of examples read from ArrayRecord files and decoded one at a time.

    Attributes:
        records: The records as `tfds.data_source` returns them, with `__len__`, `__getitem__`,
            `__getitems__`, and the attributes `dataset_info` and `split` that locate them.
        features: Mapping from name to `Feature`; other features of the records are left out.
        damage: Handling of records that cannot be read.
        remedy: Clause that tells the user what to do about damaged records, for messages; may be
            empty.
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
        """Returns a source of the same examples with only some of their features.

        See also `rcnn_jax.data.sources.select`.

        Args:
            names: Names of the features to keep.
        """
        return dataclasses.replace(self, features={name: self.features[name] for name in names})

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Example:
        check_indices(np.asarray([index]), len(self))
        return self._read(index)

    def gather(self, indices: np.ndarray) -> Example:
        """Returns several examples, stacked; see `Source.gather`.

        Args:
            indices: Indices of the examples, `int64[batch]` in `[0, len(self))`.

        Raises:
            DamagedRecordError: If a record cannot be read and `damage` is to stop.
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
            except Exception:  # noqa: BLE001 - reading one at a time below finds the record
                pass
        return [self._read(index) for index in indices]

    def _read(self, index: int) -> Example:
        if not self.damage.knows(damage_lib.key(self.records, index)):
            try:
                return self._decode(self.records[index])
            except (ImportError, MemoryError):
                raise  # The machine is at fault, not the record.
            except Exception as error:  # noqa: BLE001 - decoders raise errors of many kinds
                record = damage_lib.name_record(self.records, index, error, self.remedy)
                self.damage.meet(record)
        return spec_lib.padding(self.features)

    def _decode(self, record: Mapping[str, Any]) -> Example:
        # Every residency returns the dtype of the spec.
        return {name: spec_lib.checked(name, f, record[name]) for name, f in self.features.items()}
