"""Which scans an earlier run of ``lesioncore restore`` has finished with the same prior and settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lesioncore.cli.options import RestoreOptions

if TYPE_CHECKING:
    from lesioncore.models import Prior
    from lesioncore.restoration.config import RestoreConfig

State = Literal["finished", "unfinished", "other"]


def decided(prior: Prior, config: RestoreConfig, options: RestoreOptions) -> dict[str, Any]:
    """What a result's JSON will say of what decides it."""
    from lesioncore.engine.device import resolve_device
    from lesioncore.engine.precision import precision_for
    from lesioncore.models.prior import metadata_of
    from lesioncore.restoration.result import RunRecord
    from lesioncore.restoration.run import holding, smoothing_of, spread_map_of, weight_of

    metadata, config, device = metadata_of(prior), config.for_prior(prior), resolve_device(options.device)
    weight, smoothing = weight_of(metadata, config), smoothing_of(metadata, config)
    record = RunRecord(
        metadata,
        config,
        weight,
        smoothing,
        spread_map_of(metadata, config.spread_map),
        holding(metadata, config, weight, smoothing),
        str(device),
        None,
        precision_for(config.precision, device, prior),
        options.seed if config.latent == "sample" else None,
        0.0,
    )
    return json.loads(json.dumps(record.decided()))


def state_of(scan: Path, mask: Path | str | None, results: list[Path], wanted: dict[str, Any]) -> State:
    """Whether a scan's results are whole and those of this scan, its mask and what is `wanted`."""
    from lesioncore.restoration.volumes import sources_of

    sidecar = next((path for path in results if path.name.endswith(".json")), None)
    if sidecar is None:  # it is written last
        return "unfinished"
    try:
        facts = json.loads(sidecar.read_text())
    except ValueError:
        return "unfinished"
    expected = {**sources_of(scan, mask), **wanted}
    if any(facts.get(key) != value for key, value in expected.items()):
        return "other"
    return "finished" if set(facts.get("Files", ())) <= {path.name for path in results} else "unfinished"
