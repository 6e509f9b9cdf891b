"""What a Snakemake profile says of where jobs run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

#: Share of the machine's memory that all jobs together may ask for.
MEMORY_SHARE: Final = 0.9


def profile_settings(profile: str) -> dict[str, Any] | None:
    """Content of a profile; None where it cannot be read here: it may be the user's own, which Snakemake finds."""
    # A file for one version of Snakemake (config.v8+.yaml) goes before config.yaml.
    files = sorted(Path(profile).glob("config*.y*ml"), reverse=True)
    try:
        settings = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files]
    except (OSError, ValueError, yaml.YAMLError):
        return None
    known = [one for one in settings if isinstance(one, dict)]
    return {key: value for one in known for key, value in one.items()} if known else None


def stays_here(settings: Mapping[str, Any] | None) -> bool:
    """Whether all jobs certainly run on this machine."""
    return settings is not None and settings.get("executor", "local") == "local"


def memory_bound(settings: Mapping[str, Any] | None) -> list[str]:
    """Option of Snakemake that keeps the jobs of this machine within its memory, unless the profile has a bound.

    Without it Snakemake starts as many jobs as there are cores, whatever memory the rules ask for.
    """
    if settings is None or not stays_here(settings) or "resources" in settings:
        return []
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return ["--resources", f"mem_mb={int(MEMORY_SHARE * memory_bytes / 1e6)}"]
