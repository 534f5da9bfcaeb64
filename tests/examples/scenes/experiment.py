"""Scene labelling, the best net by mean IoU."""


def get_config():
    return {
        "model": {"name": "parts:SceneRCNN", "classes": 3},
        "task": {"name": "parts:SceneLabelling"},
        "data": {
            "name": "parts:SCENES",
            "preprocess": "to_float(255)",
            "augment": "random_crop(16)|flip",
            "residency": "memory",
        },
        "metrics": {
            "mean_iou": {
                "name": "rcnn_jax.metrics.ratios:MeanIoU",
                "classes": 3,
                "label": "labels",
                "prediction": "labels",
            }
        },
        "batch_size": 16,
        "steps": 40,
        "optimizer": {"name": "adam"},
        "schedule": {"value": 1e-2},
        "evaluate_every": 20,
        "best_metric": "mean_iou",
        "best_mode": "max",
    }
