"""Builds what is compared: keyway from this repository, and the tools beside this file."""

import json
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
TOOLS = ("load", "backend", "relay")


class BuildError(Exception):
    """Something could not be built."""


def build_tools(folder: Path) -> dict[str, Path]:
    """Compiles the tools; returns them by name."""
    folder.mkdir(parents=True, exist_ok=True)
    built = {name: folder.resolve() / name for name in TOOLS}
    for name, binary in built.items():
        source = HERE / "tools" / f"{name}.c"
        _run(["cc", "-O2", "-Wall", "-Wextra", "-o", str(binary), str(source)])
    return built


def build_keyway() -> Path:
    """Builds keyway's release; returns the binary."""
    if not shutil.which("cargo"):
        raise BuildError("cargo is needed to build keyway; or give a built one with --keyway PATH")
    _run(["cargo", "build", "--release", "--locked", "--bin", "keyway"])
    metadata = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--format-version=1"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    return Path(json.loads(metadata.stdout)["target_directory"]) / "release" / "keyway"


def _run(command: list[str]) -> None:
    if subprocess.run(command, cwd=REPOSITORY).returncode != 0:
        raise BuildError(f"could not build: {' '.join(command)}")
