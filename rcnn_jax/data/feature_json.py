"""Features as JSON: what a workdir keeps of its data set, so that it can be asked without it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rcnn_jax.data.spec import Feature


def to_json(features: Mapping[str, Feature]) -> dict[str, dict[str, Any]]:
    """Features as `json.dumps` takes them; attributes that have their default are left out.

    Args:
        features: By name.

    Returns:
        name -> attribute -> value.
    """
    return {name: _attributes(feature) for name, feature in features.items()}


def _attributes(feature: Feature) -> dict[str, Any]:
    values = {
        field.name: getattr(feature, field.name)
        for field in dataclasses.fields(Feature)
        if getattr(feature, field.name) != field.default
    }
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def from_json(table: Mapping[str, Mapping[str, Any]]) -> dict[str, Feature]:
    """Undoes `to_json`.

    Args:
        table: name -> attribute -> value. Attributes that `Feature` has not are left out: a later
            version may have written them.

    Returns:
        The features by name.
    """
    known = {field.name for field in dataclasses.fields(Feature)}

    def feature(attributes: Mapping[str, Any]) -> Feature:
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in attributes.items()
            if key in known
        }
        return Feature(**values)

    return {name: feature(attributes) for name, attributes in table.items()}
