"""All targets by their names."""

from __future__ import annotations

from fuzz.priors import PRIORS
from fuzz.scans import SCANS
from fuzz.sidecars import SIDECARS
from fuzz.tables import TABLES

TARGETS = {target.name: target for target in (SCANS, *PRIORS, TABLES, SIDECARS)}
