"""Facts about this installation: versions, backends, processor, priors."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from lesioncore import _C
from lesioncore.prior_names import embedded_priors, plugin_priors

_DRIVER = Path("/proc/driver/nvidia/gpus")
"""Where NVIDIA's driver lists its GPUs."""


def info(full: bool = False) -> dict[str, Any]:
    """Return versions, backends, processor, GPUs and installed priors.

    Parameters
    ----------
    full : bool
        Load torch and the native libraries, and say whether that worked (with the reason if it did not) and what torch
        makes of the processor and the GPUs. Without, these entries are None, and the GPUs are those that NVIDIA's
        driver lists: nothing large is loaded.

    Returns
    -------
    dict
        JSON-able; :func:`format_info` turns it into text.
    """
    build = dict(_C.build_info())
    facts: dict[str, Any] = {
        "full": full,
        "versions": {
            "lesioncore": _version("lesioncore"),
            "python": platform.python_version(),
            **{name: _version(name) for name in ("torch", "numpy", "nibabel")},
        },
        "platform": platform.platform(),
        "backends": {
            "cpu": {
                "built": True,
                "loaded": None,
                "reason": "",
                "instruction_set": _C.cpu_level(),
                "instruction_sets_built": str(build.pop("cpu_levels")).split(),
                "torch_capability": None,
                "threads": None,
            },
            "cuda": {
                "built": bool(build.pop("cuda_built")),
                "loaded": None,
                "reason": "",
                "built_with": str(build.pop("cuda_version")) or None,
                "architectures": str(build.pop("cuda_architectures")).split(),
                "torch_cuda": None,
                "devices": [] if full else _driver_devices(),
            },
        },
        "build": build,
        "embedded_priors": embedded_priors(),
        "plugin_priors": plugin_priors(),
    }
    if full:
        for name, values in _loaded().items():
            facts["backends"][name].update(values)
    return facts


def _loaded() -> dict[str, dict[str, Any]]:
    """What only torch and the native libraries can tell of the backends."""
    import torch

    from lesioncore.ops import library

    return {
        "cpu": {
            "loaded": library.cpu_loaded,
            "torch_capability": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
        },
        "cuda": {
            "loaded": library.cuda_loaded,
            "reason": library.cuda_reason,
            "torch_cuda": torch.version.cuda,
            "devices": _torch_devices(),
        },
    }


def format_info(facts: dict[str, Any]) -> str:
    """Format the result of :func:`info` as text for a terminal.

    Parameters
    ----------
    facts : dict
        From :func:`info`.

    Returns
    -------
    str
        One fact per line.
    """
    versions, build = facts["versions"], facts["build"]
    lines = [
        f"lesioncore {versions['lesioncore']} (not a medical device)",
        "versions      "
        + ", ".join(f"{name} {number or 'missing'}" for name, number in versions.items() if name != "lesioncore"),
        f"platform      {facts['platform']}",
        f"build         {build['compiler']}, {build['build_type']}, {build['flags']}",
        f"              with torch {build['torch_built_with']}, for torch >= {build['torch_abi_target']} (stable ABI)",
        *_backend_lines(facts["full"], **facts["backends"]),
        f"priors        {', '.join(facts['embedded_priors']) or 'none embedded'}",
        *(f"              {name}, from {place}" for name, place in facts["plugin_priors"].items()),
    ]
    if not facts["full"]:
        lines.append("lesioncore info --full loads torch and says what works")
    return "\n".join(lines)


def _backend_lines(full: bool, cpu: dict[str, Any], cuda: dict[str, Any]) -> list[str]:
    built = ", ".join(cpu["instruction_sets_built"])
    if full:
        threads = f"{cpu['threads']} thread{'s' * (cpu['threads'] != 1)}"
        lines = [
            f"CPU           loaded for {cpu['instruction_set']} (there are {built}); {threads};"
            f" torch uses {cpu['torch_capability']}"
        ]
    else:
        lines = [f"CPU           built for {built}; this processor takes {cpu['instruction_set']}"]
    if not cuda["built"]:
        lines.append(f"CUDA          {cuda['reason'] or 'not built'}")
    else:
        state = ("; loaded" if cuda["loaded"] else f"; not loaded: {cuda['reason']}") if full else ""
        lines.append(
            f"CUDA          built with CUDA {cuda['built_with']} for {', '.join(cuda['architectures'])}{state}"
        )
    for device in cuda["devices"]:
        seen = f", {device['memory_gib']} GiB, sm_{device['capability']}" if full else ""
        lines.append(f"GPU           {device['name']}{seen}")
    if not cuda["devices"]:
        lines.append(f"GPU           none {'visible to torch' if full else 'listed by a driver of NVIDIA'}")
    return lines


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _driver_devices() -> list[dict[str, Any]]:
    """GPUs that NVIDIA's driver lists. All of the machine are there, whatever a container or a job may use."""
    names = []
    for file in sorted(_DRIVER.glob("*/information")):
        fields = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
        names.append(fields.get("Model", "unknown").strip())
    return [{"name": name, "memory_gib": None, "capability": None} for name in names]


def _torch_devices() -> list[dict[str, Any]]:
    import torch

    if not torch.cuda.is_available():
        return []
    devices = []
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        memory, capability = round(gpu.total_memory / 2**30, 1), f"{gpu.major}{gpu.minor}"
        devices.append({"name": gpu.name, "memory_gib": memory, "capability": capability})
    return devices
