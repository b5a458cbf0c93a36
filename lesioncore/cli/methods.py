"""Methods that a command line names, such as ``MAP=phantom-t2:map:sign=1``."""

from __future__ import annotations

import ast
from dataclasses import fields
from inspect import signature
from typing import TYPE_CHECKING, Any

from lesioncore.cli.output import CommandError, UsageError
from lesioncore.prior_names import HUB

if TYPE_CHECKING:
    from lesioncore.detectors import Detector
    from lesioncore.scoring.postprocess import PostProcessing

_TEXT_OPTIONS = ("solver", "tv", "latent", "protocol", "precision")  # options of map whose values are text


def open_detector(spec: str) -> tuple[str, Detector]:
    """Load the detector that a text describes.

    Parameters
    ----------
    spec : str
        ``[NAME=]MODEL[:METHOD[:OPTION=VALUE,...]]``. Options are those of the method's class, with numbers, true, false
        or none as values; those of ``map`` are the fields of :class:`lesioncore.RestoreConfig`. All methods take the
        options of :class:`lesioncore.PostProcessing`, too.

    Returns
    -------
    name : str
        NAME, or all of `spec` without one.
    detector : Detector
        The detector, with its post-processing set.

    Raises
    ------
    UsageError
        If the options cannot be read, or are not the method's.
    CommandError
        If there is no such model, or it does not offer the method.
    """
    from lesioncore.detectors import load_detector

    name, model, method, option_list = split_method(spec)
    options: dict[str, Any] = dict(_parse_option(spec, part) for part in option_list.split(",") if part)
    try:
        postprocessing, arguments = _split_options(method, options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"--methods: {spec}: {error}") from error
    try:
        detector = load_detector(model, method or None, **arguments)
    except TypeError as error:
        common = f", and like every method {', '.join(_postprocessing_options())}" if arguments else ""
        raise UsageError(f"--methods: {spec}: {error}{common}") from error
    except (FileNotFoundError, ValueError, ImportError, RuntimeError) as error:
        raise CommandError(f"--methods: {spec}: {str(error).removeprefix('name: ')}") from error
    detector.postprocessing = postprocessing
    return name, detector


def split_method(spec: str) -> tuple[str, str, str, str]:
    """Split the text that describes a detector into name, model, method and options, the last two maybe empty.

    Raises
    ------
    UsageError
        If it has no name or no model.
    """
    name, equals, rest = spec.partition("=")
    if not equals or ":" in name or "/" in name:  # the equals sign is part of an option or a path
        name, rest = spec, spec
    scheme = HUB if rest.startswith(HUB) else ""  # whose colon ends no model
    model, _, rest = rest.removeprefix(scheme).partition(":")
    model = scheme + model if model else ""
    method, _, options = rest.partition(":")
    if not name or not model:
        raise UsageError(f"--methods: got {spec!r}, expected [NAME=]MODEL[:METHOD[:OPTION=VALUE,...]]")
    return name, model, method, options


def _split_options(method: str, options: dict[str, Any]) -> tuple[PostProcessing, dict[str, Any]]:
    """Split options into the post-processing of masks and the arguments of the method's class."""
    from lesioncore.detectors.load import check_options
    from lesioncore.restoration.config import RestoreConfig
    from lesioncore.scoring.postprocess import PostProcessing

    if method == "map":
        config_options = [name for name in signature(RestoreConfig).parameters if name != "postprocessing"]
        check_options(method, options, [*config_options, *_postprocessing_options()])
    for key, value in options.items():
        if isinstance(value, str) and not (method == "map" and key in _TEXT_OPTIONS):
            raise ValueError(f"{key}: got {value!r}, expected a number, true, false or none")
    postprocessing = PostProcessing(**{key: options[key] for key in _postprocessing_options() if key in options})
    arguments = {key: value for key, value in options.items() if key not in _postprocessing_options()}
    if method == "map" and arguments:
        arguments = {"config": RestoreConfig(**arguments)}
    return postprocessing, arguments


def _postprocessing_options() -> list[str]:
    """Names of the post-processing options, which every method takes."""
    from lesioncore.scoring.postprocess import PostProcessing

    return [field.name for field in fields(PostProcessing)]


def _parse_option(spec: str, part: str) -> tuple[str, Any]:
    key, equals, text = (piece.strip() for piece in part.partition("="))
    if not key or not equals or not text:
        raise UsageError(f"--methods: {spec}: got {part!r}, expected OPTION=VALUE")
    constants = {"true": True, "false": False, "none": None}
    if text.lower() in constants:
        return key, constants[text.lower()]
    try:
        return key, ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return key, text
