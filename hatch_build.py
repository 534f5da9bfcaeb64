"""Compiles the kernels where there is a compiler, when the package or a wheel of it is made.

Without one, or where the compilation fails, the package is installed without them:
`rcnn_jax/kernels/build.txt` holds the reason, and `python -m rcnn_jax.check` prints it.
"""

import importlib.util
import os
import pathlib
import sys
import tempfile
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Headers of the oldest supported jaxlib: later ones, up to 0.12, call a library that was built with
# them, while an older jaxlib refuses one that was built with later headers.
JAXLIB = "0.10.2"
ROOM = "rcnn_jax/kernels"


class KernelsHook(BuildHookInterface):
    """Adds the library of compiled kernels to a wheel, or to the checkout that is installed."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Returns what the build needs besides hatchling: headers, where they are needed."""
        build = self._build()
        if build.switched_off() or self._there(build) or build.compiler() is None:
            return []
        return [f"jaxlib=={JAXLIB}"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles the library, unless the checkout has one that was built from these sources.

        Args:
            version: Version of the target: `editable` or `standard`.
            build_data: What hatchling makes the wheel from; the library, its report and the tag of
                the platform are added.
        """
        build = self._build()
        room = pathlib.Path(self.root, ROOM)
        self._scratch = tempfile.TemporaryDirectory()
        made, reason = room, ""
        if build.switched_off() or not self._there(build):
            # Into the checkout, too, where it can be: a command that is started there imports the
            # package of the checkout.
            in_place = not build.switched_off() and os.access(room, os.W_OK)
            if version != "editable" and not in_place:
                made = pathlib.Path(self._scratch.name)
            reason = build.build_into(made, room / "native")
        if version != "editable":
            for name in (build.LIBRARY, build.REPORT):
                if (made / name).exists():
                    build_data["force_include"][str(made / name)] = f"{ROOM}/{name}"
        if reason:
            self.app.display_warning(f"rcnn_jax is installed without compiled kernels: {reason}")
            return
        # Python is not part of the library: one wheel for every version of it on this platform.
        from packaging.tags import platform_tags

        platform = next(tag for tag in platform_tags() if not tag.startswith(("many", "musl")))
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes what the wheel was made from."""
        del version, build_data, artifact_path
        self._scratch.cleanup()

    def _there(self, build: Any) -> bool:
        """Returns whether the checkout has a library that was built from its sources."""
        return build.is_current(pathlib.Path(self.root, ROOM, build.LIBRARY), JAXLIB)

    def _build(self) -> Any:
        """Returns the module that builds, loaded by its path: the package needs jax."""
        file = pathlib.Path(self.root, ROOM, "build.py")
        spec = importlib.util.spec_from_file_location("rcnn_jax_kernels_build", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # Data classes look their module up.
        spec.loader.exec_module(module)
        return module
