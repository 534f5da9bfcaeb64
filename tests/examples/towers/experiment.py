"""Two towers on the world of shapes."""


def get_config():
    return {
        "model": {"name": "parts:Towers", "width": 8},
        "task": {"name": "parts:Ranking"},
        "encoder": {"name": "rcnn_jax.data.encoders.captions:Captions", "min_count": 1},
        "data": {
            "name": "shapes_world",
            "features": ("image", "captions"),
            "train": "train[:64]",
            "validation": "validation[:40]",
            "residency": "memory",
        },
        "batch_size": 16,
        "steps": 4,
        "optimizer": {"name": "adam"},
        "schedule": {"value": 3e-3},
        "best_metric": "recall_at_10",
        "best_mode": "max",
    }
