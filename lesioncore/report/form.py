"""The form of a restoration's sidecar: what pages, tables and texts are made of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from lesioncore.data.files import FileFacts
from lesioncore.data.json_form import Unbounded, check_form

_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,20})?(e-[0-9]{1,2})?")

_SIDECAR: Mapping[str, Any] = {
    "GeneratedBy": dict[str, str],
    "GeneratedBy.Version": str,
    "GeneratedBy.torch": str,
    "Source": str | None,
    "SourceSHA256": str | None,
    "Prior": str,
    "PriorFingerprint": str | None,
    "Contrast": str | None,
    "Settings.solver.name": str,
    "Settings.solver.steps": int,
    "Settings.tv": str,
    "Settings.tv_dimensions": int,
    "Settings.latent": str,
    "TVWeight": float,
    "Smoothing": float,
    "Thresholds": dict[str, Unbounded] | None,
    "BrainMillilitres": float,
    "DetectedMillilitres": dict[str, float] | None,
    "Remarks": list[str],
    "Preprocessing": list[dict[str, Any]],
    "Files": dict[str, FileFacts],
}
_SIDECAR_MAY_HAVE: Mapping[str, Any] = {
    "Settings.sign": Literal[-1, 1] | None,
    "Settings.standardize": bool | None,
    "Settings.asymmetry": float,
    "ToTemplate": list[list[float]] | None,
    "Sources": list[str],
}
_STEPS: Mapping[str, Mapping[str, Any]] = {
    "extract": {"confidence": float, "brain_ml": float, "input": str},
    "register": {"overlap": float},
    "bias": {"log_field_sd": float},
}
"""Figures of each step of preprocessing that pages show."""


def check_sidecar(facts: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` that names the place if a sidecar's values are not what pages and tables are made of."""
    _check(facts, _SIDECAR, _SIDECAR_MAY_HAVE)
    for name in ("Thresholds", "DetectedMillilitres"):
        _check_rates(facts[name] or {}, name)
    for number, step in enumerate(facts["Preprocessing"]):
        where = f"Preprocessing[{number}]."
        _check(step, {"name": str, "figures": dict[str, Any]}, {}, where)
        _check(step["figures"], _STEPS.get(step["name"], {}), {}, f"{where}figures.")
    matrix = facts.get("ToTemplate")
    if matrix is not None and [len(row) for row in matrix] != [4, 4, 4, 4]:
        raise ValueError("ToTemplate: expected 4 rows of 4 numbers")


def _check(values: Mapping[str, Any], needed: Mapping[str, Any], may_have: Mapping[str, Any], inside: str = "") -> None:
    """Check values at places such as ``Settings.solver.name``; what else there is may be of any form."""
    for place, form in {**needed, **may_have}.items():
        found: Any = values
        *path, last = place.split(".")
        for key in path:
            found = found.get(key)
            if not isinstance(found, dict):
                raise ValueError(f"{inside}{place}: is missing")
        if last in found:
            check_form(found[last], form, f"{inside}{place}")
        elif place in needed:
            raise ValueError(f"{inside}{place}: is missing")


def _check_rates(values: Mapping[str, Any], where: str) -> None:
    for rate in values:
        if _NUMBER.fullmatch(rate) is None:
            raise ValueError(f"{where}: got {rate[:40]!r}, expected a false-positive rate, such as '0.05'")
