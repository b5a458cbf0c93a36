"""The card of a model on the hub: its own card, the hub's front matter, and what its files say of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lesioncore import __version__
from lesioncore.about import NOTE
from lesioncore.calibration.record import Calibration
from lesioncore.data.json_files import read_object
from lesioncore.data.text_files import read_text
from lesioncore.metrics.limits import LIMITS
from lesioncore.models.directory import LARGEST
from lesioncore.models.registry import kind_of
from lesioncore.prior_names import CALIBRATION, CARD, CONFIG
from lesioncore.words import people

LICENSES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "gpl-3.0", "cc0-1.0", "cc-by-3.0", "cc-by-4.0"),
    *("cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
    *("cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "other"),
)
"""The hub's names of licences that weights may be under; ``other`` is one that the card itself names."""

_FRONT = re.compile(r"\A---\n(.*?)\n---\n+", re.S)
_BEGIN, _END = "<!-- lesioncore push: begin -->", "<!-- lesioncore push: end -->"
_GENERATED = re.compile(rf"\n*{_BEGIN}.*?{_END}\n?", re.S)
_IXI = re.compile(r"(?:^|[\W_])ixi(?:[\W_]|$)|^real-(?:t1|t2|flair)$", re.I)
"""Data of a training, or a prior that it started from, under the licence of the IXI data set."""
_STATED = re.compile(r"licen[cs]e\**:\**\s*(\S.*)", re.I)


def license_of(directory: Path, given: str | None) -> str:
    """Decide a model's licence by its card and by what was given; what IXI's scans went into is under IXI's.

    Parameters
    ----------
    directory : Path
        The model's directory.
    given : str, optional
        One of `LICENSES`.

    Raises
    ------
    ValueError
        If there is no licence, an unknown one, or one that the card or the training data contradict.
    """
    card = read_text(directory / CARD, LARGEST[CARD])
    if given is not None and given not in LICENSES:
        raise ValueError(f"license: got {given!r}, expected one of {', '.join(LICENSES)}")
    if given == "other" and _STATED.search(card) is None:
        raise ValueError(f"license: got 'other', but the card has none; write 'Licence: ...' into {directory / CARD}")
    stated = _stated(card)
    if None not in (given, stated) and given != stated:
        raise ValueError(
            f"license: got {given!r}, but the card says {stated}, which holds for copies, too; leave the option out, or"
            f" mend {directory / CARD} if it is wrong"
        )
    license = given or stated
    if license is None:
        raise ValueError(
            f"license: got none, and {directory / CARD} states none, expected one that the people's data allow; give"
            f" one of {', '.join(LICENSES)}"
        )
    training = read_object(directory / CONFIG, LARGEST[CONFIG]).get("training") or {}
    if license != "cc-by-sa-3.0" and any(map(_IXI.search, _texts(training))):
        raise ValueError(
            f"license: got {license!r} for a model of the IXI data set, expected cc-by-sa-3.0, as that is and what is"
            " made of it; give that"
        )
    return license


def local_paths(directory: Path) -> list[str]:
    """Paths of a machine that a model's files name, such as those of its training data."""
    found = []
    for file, key in ((CONFIG, "training"), (CALIBRATION, "notes")):
        if (directory / file).exists():
            values = read_object(directory / file, LARGEST[file]).get(key)
            found += [text for text in _texts(values) if text.startswith(("/", "~"))]
    return sorted(set(found))


def hub_card(directory: Path, model: Any, repository: str, license: str, datasets: Sequence[str] = ()) -> str:
    """The card that a model has on the hub.

    Parameters
    ----------
    directory : Path
        The model's directory.
    model : nn.Module
        The model, loaded from it.
    repository : str
        ``owner/name`` on the hub.
    license : str
        One of `LICENSES`.
    datasets : sequence of str
        The hub's names of the data sets that it learned from.

    Returns
    -------
    str
        Markdown. What an earlier push generated is made anew.
    """
    metadata = model.metadata
    kind = kind_of(model)
    tags = [
        "lesion-detection",
        "anomaly-detection",
        "brain",
        "mri",
        kind,
        *([metadata.modality] if metadata.modality else []),
    ]
    front = [f"license: {license}", "library_name: lesioncore", "pipeline_tag: image-segmentation"]
    for key, values in (("tags", tags), ("datasets", datasets)):
        front += [f"{key}:", *(f"- {json.dumps(value)}" for value in values)] if values else []  # JSON is YAML
    body = _GENERATED.sub("\n", _FRONT.sub("", read_text(directory / CARD, LARGEST[CARD]))).rstrip()
    facts = {
        "model": f"`{kind}`, {sum(weight.numel() for weight in model.parameters()):,} parameters",
        **_facts(metadata),
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    name = f"hf://{repository}"
    return (
        "\n".join(["---", *front, "---"])
        + f"""

{body}

{_BEGIN}
## Use

With lesioncore and its extra `hub`. COMMIT is one of this repository's commits, which never changes:

```sh
lesioncore restore scan.nii.gz -o out/ --prior {name}@COMMIT
```

```python
import lesioncore as lc

prior = lc.load_prior("{name}@COMMIT")
```

## What it was made for

| | |
|---|---|
{rows}

Thresholds hold for scans like those of the calibration: `lesioncore calibrate` finds them for others. Lesions that look
like healthy tissue of their place, and most that are small, are missed.

{NOTE}
{_END}
"""
    )


def _facts(metadata: Any) -> dict[str, str]:
    """What a model's metadata say, by name."""
    facts = {"contrast": metadata.modality or "not told"}
    if metadata.grid is not None:
        height, width = metadata.grid.shape
        facts["grid"] = f"transversal slices of {height} x {width} pixels of {metadata.grid.voxel_size:g} mm"
    facts["intensities"] = (
        "z-scores as they come" if metadata.intensity is None else f"`{type(metadata.intensity).__name__}`"
    )
    facts["preprocessing"] = ", ".join(metadata.preprocessing) or "none"
    facts |= _calibration(metadata.calibration)
    return facts | {"fingerprint": f"`{metadata.fingerprint}`", "uploaded by": f"lesioncore {__version__}"}


def _calibration(calibration: Calibration | None) -> dict[str, str]:
    if calibration is None:
        return {"calibration": "none: there are no masks"}
    weight = "" if calibration.tv_weight is None else f"weight {calibration.tv_weight:g}, "
    thresholds = (f"{calibration.threshold(limit):.3g} at {100 * limit:g} %" for limit in LIMITS)
    return {
        "calibration": f"{people(calibration.subjects, 'healthy')}; {weight}smoothing {calibration.smoothing:g} mm",
        "thresholds": f"{', '.join(thresholds)} of healthy voxels",
    }


def _stated(card: str) -> str | None:
    """The licence that a card states, in its front matter or in a line that begins with Licence."""
    front = _FRONT.match(card)
    found = _STATED.search(front[1]) if front else None
    found = found or _STATED.search(card)
    if found is None:
        return None
    text = re.sub(r"\s+", "-", found[1].lower())
    return max((name for name in LICENSES if text.startswith(name)), key=len, default=None)


def _texts(value: Any) -> Iterator[str]:
    """All texts in JSON-able values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
