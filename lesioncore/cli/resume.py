"""Which scans an earlier run of ``lesioncore restore`` has finished with the same prior and settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lesioncore.cli.options import RestoreOptions

if TYPE_CHECKING:
    from lesioncore.config import RestoreConfig
    from lesioncore.priors import Prior


def decided(prior: Prior, config: RestoreConfig, options: RestoreOptions) -> dict[str, Any]:
    """What a result's JSON will say of what decides it."""
    from lesioncore.precision import precision_for
    from lesioncore.priors.base import metadata_of
    from lesioncore.restore import holding, resolve_device, smoothing_of, weight_of
    from lesioncore.result import RunRecord

    metadata, config, device = metadata_of(prior), config.for_prior(prior), resolve_device(options.device)
    weight, smoothing = weight_of(metadata, config), smoothing_of(metadata, config)
    record = RunRecord(
        metadata,
        config,
        weight,
        smoothing,
        holding(metadata, config, weight, smoothing),
        str(device),
        None,
        precision_for(config.precision, device, prior),
        options.seed if config.latent == "sample" else None,
        0.0,
    )
    return json.loads(json.dumps(record.decided()))


def sidecar_of(results: list[Path]) -> Path | None:
    """The JSON of a scan's results, which is written last: without it they are not whole."""
    return next((path for path in results if path.name.endswith(".json")), None)


def is_finished(scan: Path, mask: Path | None, results: list[Path], wanted: dict[str, Any]) -> bool:
    """Whether a scan's results are whole, no older than the scan and its mask, and made as `wanted`."""
    sidecar = sidecar_of(results)
    if sidecar is None:
        return False
    made = sidecar.stat().st_mtime
    if any(path.stat().st_mtime > made for path in (scan, mask) if path is not None):
        return False
    facts = json.loads(sidecar.read_text())
    return facts.get("Source") == scan.name and all(facts.get(key) == value for key, value in wanted.items())
