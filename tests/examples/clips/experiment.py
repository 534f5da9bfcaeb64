"""Clips of different lengths, classified."""


def get_config():
    return {
        "model": {"name": "parts:ConvLSTM", "classes": 4},
        "task": {
            "name": "rcnn_jax.tasks.classification:Classification",
            "inputs": "clip",
            "lengths": "length",
        },
        "encoder": {"name": "rcnn_jax.data.encoders.padding:Padded"},
        "data": {"name": "parts:CLIPS", "residency": "memory"},
        "batch_size": 16,
        "steps": 240,
        "optimizer": {"name": "adam", "clip_norm": 1.0},
        "schedule": {"value": 1e-2},
        "evaluate_every": 240,
    }
