"""Features as JSON, kept in a workdir so that the data set is not needed to look them up."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rcnn_jax.data.spec import Feature


def to_json(features: Mapping[str, Feature]) -> dict[str, dict[str, Any]]:
    """Returns features in the form that `json.dumps` takes.

    Args:
        features: Mapping from names to `Feature`s.

    Returns:
        Mapping from names to attributes to values. Attributes at their defaults are omitted.

    Example:
        >>> from rcnn_jax.data.feature_json import to_json
        >>> from rcnn_jax.data.spec import Feature
        >>> to_json({"label": Feature((), "int32", classes=("cat", "dog"))})
        {'label': {'shape': [], 'dtype': 'int32', 'classes': ['cat', 'dog']}}
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
    """Returns the features that `to_json` converted.

    Args:
        table: Mapping from names to attributes to values. Attributes that `Feature` does not have
            are ignored, because a later version may have written them.

    Returns:
        Mapping from names to `Feature`s.
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
