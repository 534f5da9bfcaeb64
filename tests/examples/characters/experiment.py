"""A character model on text.txt below --data_dir."""


def get_config():
    return {
        "model": {"name": "parts:CharacterModel", "hidden": 16},
        "task": {"name": "parts:NextCharacter"},
        "data": {"name": "parts:TEXT", "residency": "memory"},
        "sampler": {"name": "rcnn_jax.data.streams:Contiguous"},
        "batch_size": 4,
        "steps": 30,
        "optimizer": {"name": "adam", "clip_norm": 1.0},
        "schedule": {"value": 3e-3},
        "evaluate_every": 30,
        "best_metric": "bits",
    }
