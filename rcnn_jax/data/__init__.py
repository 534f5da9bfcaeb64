"""Data sets, the order of their examples, and their way to the device as batches.

A config names a data set, a split and two chains of transforms; the commands do the following::

    source = catalog.open_source("cifar10", "train[:40000]", residency="memory")
    sampler = samplers.Shuffled(len(source), batch_size=128, seed=0)
    assets = chain.fit_all(["subtract_pixel_mean|random_crop(24)|flip"], source)
    augment = chain.build("subtract_pixel_mean|random_crop(24)|flip", assets)
    with pipeline.train_batches(source, sampler, start_step=0, num_steps=100,
                                residency="memory", place=jax.device_put) as batches:
        for batch in batches:  # {"image": ..., "label": ..., "mask": ...} on the device
            ...

The module `spec` describes a data set, `datasets` holds the shipped descriptions, and `catalog`
opens a data set by name. `sources` gives access to its examples, `samplers` order them, `pipeline`
brings batches to the device, `transforms` prepares them there, and `assets` keeps what was fitted.
This package imports nothing above it, and neither Grain nor TFDS unless `residency="stream"` or a
`tfds:` name asks for them.
"""
