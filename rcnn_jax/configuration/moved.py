"""Where what once had another address is now."""

MOVED: dict[str, str] = {
    "rcnn_jax.compilation_cache": "rcnn_jax.startup.compilation_cache",
    "rcnn_jax.config_schema": "rcnn_jax.configuration.schema",
    "rcnn_jax.configuration": "rcnn_jax.configuration.loading",
    "rcnn_jax.data.roots:cache_dir": "rcnn_jax.configuration.environment:cache_dir",
    "rcnn_jax.doors": "rcnn_jax.startup.doors",
    "rcnn_jax.files": "rcnn_jax.output.files",
    "rcnn_jax.huge_pages": "rcnn_jax.startup.huge_pages",
    "rcnn_jax.importing": "rcnn_jax.configuration.importing",
    "rcnn_jax.key_listing": "rcnn_jax.configuration.key_listing",
    "rcnn_jax.outputs:EvaluatedBatch": "rcnn_jax.training.interface:EvaluatedBatch",
    "rcnn_jax.outputs:LossOutput": "rcnn_jax.training.interface:LossOutput",
    "rcnn_jax.outputs:PyTree": "rcnn_jax.training.interface:PyTree",
    "rcnn_jax.predicted": "rcnn_jax.output.predicted",
    "rcnn_jax.progress": "rcnn_jax.output.progress",
    "rcnn_jax.reports.picture": "rcnn_jax.output.picture_style",
    "rcnn_jax.results": "rcnn_jax.output.results",
    "rcnn_jax.switches": "rcnn_jax.configuration.environment",
    "rcnn_jax.tables": "rcnn_jax.output.tables",
    "rcnn_jax.tables:MEGABYTE": "rcnn_jax.training.parameters:MEGABYTE",
    "rcnn_jax.tables:parameter_table": "rcnn_jax.training.parameters:parameter_table",
    "rcnn_jax.training.checkpoint_errors": "rcnn_jax.training.checkpoints.errors",
    "rcnn_jax.training.checkpoints": "rcnn_jax.training.checkpoints.reading",
    "rcnn_jax.training.checksums": "rcnn_jax.training.checkpoints.checksums",
    "rcnn_jax.training.distributed": "rcnn_jax.training.parallel.distributed",
    "rcnn_jax.training.paths": "rcnn_jax.training.parameters",
    "rcnn_jax.training.saving": "rcnn_jax.training.checkpoints.saving",
    "rcnn_jax.training.sharding": "rcnn_jax.training.parallel.mesh",
    "rcnn_jax.training.sharding_rules": "rcnn_jax.training.parallel.fsdp_rules",
    "rcnn_jax.training.signals": "rcnn_jax.training.parallel.signals",
    "rcnn_jax.training.topology": "rcnn_jax.training.checkpoints.topology",
    "rcnn_jax.xla_flags": "rcnn_jax.startup.xla_flags",
}
"""`package.module` -> `package.other` for all names of a module, `package.module:Name` ->
`package.other:Name` for one, which counts first. Configs of finished runs hold import paths; they
are read as if they had been written with the new ones."""
