"""Lion and a one-cycle schedule from Optax, a metric and a writer from parts.py."""


def get_config():
    return {
        "model": {"name": "rcnn_jax.models.rcnn:RCNN", "classes": 10, "features": 8, "steps": 1},
        "data": {"name": "digits", "preprocess": "to_float(16)", "residency": "memory"},
        "optimizer": {"name": "optax:lion", "options": {"b1": 0.95, "weight_decay": 1e-2}},
        "schedule": {"name": "optax:cosine_onecycle_schedule", "value": 3e-3},
        "metrics": {"confidence": {"name": "parts:Confidence"}},
        "best_metric": "confidence",
        "best_mode": "max",
        "writers": ("parts:Lines",),
        "batch_size": 32,
        "steps": 8,
        "evaluate_every": 4,
    }
