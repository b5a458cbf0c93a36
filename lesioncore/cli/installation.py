"""Facts about this installation: versions, backends, processor, priors."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

import torch

from lesioncore import _C
from lesioncore.models.io import embedded_priors
from lesioncore.models.plugins import plugin_priors
from lesioncore.ops import library


def info() -> dict[str, Any]:
    """Return versions, backends (with the reason if one is not loaded), processor, threads, GPUs and installed priors.

    Returns
    -------
    dict
        JSON-able; :func:`format_info` turns it into text.
    """
    build = dict(_C.build_info())
    return {
        "versions": {
            "lesioncore": _version("lesioncore"),
            "python": platform.python_version(),
            **{name: _version(name) for name in ("torch", "numpy", "nibabel")},
        },
        "platform": platform.platform(),
        "backends": {
            "cpu": {
                "built": True,
                "loaded": library.cpu_loaded,
                "reason": "",
                "instruction_set": _C.cpu_level(),
                "instruction_sets_built": str(build.pop("cpu_levels")).split(),
                "torch_capability": torch.backends.cpu.get_cpu_capability(),
                "threads": torch.get_num_threads(),
            },
            "cuda": {
                "built": bool(build.pop("cuda_built")),
                "loaded": library.cuda_loaded,
                "reason": library.cuda_reason,
                "built_with": str(build.pop("cuda_version")) or None,
                "architectures": str(build.pop("cuda_architectures")).split(),
                "torch_cuda": torch.version.cuda,
                "devices": _cuda_devices(),
            },
        },
        "build": build,
        "embedded_priors": embedded_priors(),
        "plugin_priors": plugin_priors(),
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
    versions, cpu, cuda, build = facts["versions"], facts["backends"]["cpu"], facts["backends"]["cuda"], facts["build"]
    lines = [
        f"lesioncore {versions['lesioncore']} (not a medical device)",
        "versions      "
        + ", ".join(f"{name} {number or 'missing'}" for name, number in versions.items() if name != "lesioncore"),
        f"platform      {facts['platform']}",
        f"build         {build['compiler']}, {build['build_type']}, {build['flags']}",
        f"              with torch {build['torch_built_with']}, for torch >= {build['torch_abi_target']} (stable ABI)",
        f"CPU           loaded for {cpu['instruction_set']} (there are {', '.join(cpu['instruction_sets_built'])});"
        f" {cpu['threads']} thread{'s' * (cpu['threads'] != 1)}; torch uses {cpu['torch_capability']}",
    ]
    if cuda["built"]:
        built = f"built with CUDA {cuda['built_with']} for {', '.join(cuda['architectures'])}"
        lines.append(f"CUDA          {built}; " + ("loaded" if cuda["loaded"] else f"not loaded: {cuda['reason']}"))
    else:
        lines.append(f"CUDA          {cuda['reason']}")
    lines += [
        f"GPU           {device['name']}, {device['memory_gib']} GiB, sm_{device['capability']}"
        for device in cuda["devices"]
    ]
    if not cuda["devices"]:
        lines.append("GPU           none visible to torch")
    lines.append(f"priors        {', '.join(facts['embedded_priors']) or 'none embedded'}")
    lines += [f"              {name}, from {origin}" for name, origin in facts["plugin_priors"].items()]
    return "\n".join(lines)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cuda_devices() -> list[dict[str, Any]]:
    if not torch.cuda.is_available():
        return []
    devices = []
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        memory, capability = round(gpu.total_memory / 2**30, 1), f"{gpu.major}{gpu.minor}"
        devices.append({"name": gpu.name, "memory_gib": memory, "capability": capability})
    return devices
