"""Names of priors, the package's own and those of other packages, told without loading a network or torch."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

MODEL, CONFIG, CALIBRATION, CARD = "model.safetensors", "config.json", "calibration.json", "README.md"
"""Files of a model's directory (:mod:`lesioncore.models.io`)."""

EMBEDDED = Path(__file__).parent / "models" / "embedded"
"""Folder of the priors that come with the package."""

AUTO = "auto"
"""What stands for the prior of a scan's contrast (:mod:`lesioncore.restoration.prior_choice`)."""

HUB = "hf://"
"""Start of the names of models on the Hugging Face hub (:mod:`lesioncore.models.hub`)."""

GROUP = "lesioncore.priors"
"""Group of the entry points of other packages' priors (:mod:`lesioncore.models.plugins`)."""


def embedded_priors() -> list[str]:
    """Names of the priors that come with the package."""
    return sorted(path.parent.name for path in EMBEDDED.glob(f"*/{CONFIG}"))


def plugin_priors() -> dict[str, str]:
    """Names of the priors of other packages, and which installed distribution each comes from; imports none of them."""
    return {name: ", ".join(map(origin, entries)) for name, entries in sorted(plugin_entries().items())}


def available_priors() -> dict[str, str]:
    """Names that :func:`lesioncore.load_prior` knows, and where each comes from: ``"lesioncore"`` or another
    distribution.
    """
    return {**plugin_priors(), **dict.fromkeys(embedded_priors(), "lesioncore")}


def is_known(name: str) -> bool:
    """Whether there is a prior of a name, or a directory; one on the hub is not looked for."""
    return name.startswith(HUB) or name in available_priors() or Path(name).is_dir()


def unknown(name: str) -> str:
    """What to say of a name that no prior has."""
    return (
        f"got {name!r}, expected a prior: one of {sorted(available_priors())}, a directory with {CONFIG} and {MODEL},"
        f" or {HUB}owner/name"
    )


def plugin_entries() -> dict[str, list[EntryPoint]]:
    """Entry points of each name; several where packages offer the same name."""
    entries: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=GROUP):
        entries.setdefault(entry.name, []).append(entry)
    return entries


def origin(entry: EntryPoint) -> str:
    """Distribution and version that an entry point comes from."""
    return "an unknown distribution" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
