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
    """Content of a profile; None where it is no folder here: it may be one of the user's own, which Snakemake finds."""
    files = sorted(Path(profile).glob("config*.y*ml"))
    content = yaml.safe_load(files[-1].read_text(encoding="utf-8")) if files else None
    return content if isinstance(content, dict) else None


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
