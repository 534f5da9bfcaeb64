"""Where what once had another address is now."""

MOVED: dict[str, str] = {
    "rcnn_jax.compilation_cache": "rcnn_jax.startup.compilation_cache",
    "rcnn_jax.config_schema": "rcnn_jax.configuration.schema",
    "rcnn_jax.configuration": "rcnn_jax.configuration.loading",
    "rcnn_jax.data.roots:cache_dir": "rcnn_jax.configuration.environment:cache_dir",
    "rcnn_jax.doors": "rcnn_jax.startup.doors",
    "rcnn_jax.huge_pages": "rcnn_jax.startup.huge_pages",
    "rcnn_jax.importing": "rcnn_jax.configuration.importing",
    "rcnn_jax.key_listing": "rcnn_jax.configuration.key_listing",
    "rcnn_jax.switches": "rcnn_jax.configuration.environment",
    "rcnn_jax.xla_flags": "rcnn_jax.startup.xla_flags",
}
"""`package.module` -> `package.other` for all names of a module, `package.module:Name` ->
`package.other:Name` for one, which counts first. Configs of finished runs hold import paths; they
are read as if they had been written with the new ones."""
