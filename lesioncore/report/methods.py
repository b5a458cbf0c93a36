"""The methods section of a paper, for a run of restoration: what was done, with which figures and references."""

from __future__ import annotations

from typing import Any

from lesioncore.report.saved import SavedResult

REFERENCES = (
    "X. Chen, S. You, K. C. Tezcan, E. Konukoglu, Unsupervised lesion detection via image restoration with a normative"
    " prior, Medical Image Analysis 64 (2020) 101713.",
    "V. S. Fonov, A. C. Evans, K. Botteron, C. R. Almli, R. C. McKinstry, D. L. Collins and the Brain Development"
    " Cooperative Group, Unbiased average age-appropriate atlases for pediatric studies, NeuroImage 54 (2011) 313-327.",
)

_SOLVERS = {
    "em": "expectation-maximisation, alternating the prior's posterior with an exact proximal step",
    "prox": "proximal gradient descent",
    "paper": "gradient descent with a fixed step, as in the original paper",
}


def methods_text(saved: SavedResult) -> str:
    """Paragraphs to paste into a paper, made from the settings of a saved restoration; the references come last."""
    facts = saved.facts
    version = facts["GeneratedBy"]["Version"]
    return "\n\n".join(
        [
            f"Lesions were detected without supervision with lesioncore {version} (PyTorch"
            f" {facts['GeneratedBy']['torch']}). {_preprocessing(saved)}",
            _restoration(facts),
            _detection(saved),
            "References: " + " ".join(REFERENCES[: 2 if saved.to_template is not None else 1]),
        ]
    )


def _preprocessing(saved: SavedResult) -> str:
    sentences = []
    if extract := saved.step("extract"):
        sentences.append(
            f"The brain was extracted with lesioncore's network ({extract['brain_ml']:.0f} ml; input:"
            f" {_INPUTS.get(extract['input'], extract['input'])})"
        )
    if register := saved.step("register"):
        sentences.append(
            "registered affinely to the ICBM152 nonlinear symmetric 2009a template (overlap of the brain masks"
            f" {register['overlap']:.3f})"
        )
    if bias := saved.step("bias"):
        sentences.append(
            "corrected for its bias field by a second-degree polynomial fitted to the template's tissues (standard"
            f" deviation of the logarithm of the field {bias['log_field_sd']:.3f})"
        )
    if not sentences:
        return "The scan was taken as it was given, without preprocessing."
    return ", ".join(sentences) + "."


_INPUTS = {"head": "the whole head", "brain": "a scan without its skull", "mask": "within a given brain mask"}


def _restoration(facts: dict[str, Any]) -> str:
    settings = facts["Settings"]
    solver = settings["solver"]
    posterior = "its mean" if settings["latent"] == "mean" else "samples of it"
    fingerprint = facts["PriorFingerprint"]
    prior = repr(facts["Prior"]) + (f" (SHA-256 {fingerprint[:12]})" if fingerprint else "")
    solver_text = f"{_SOLVERS.get(solver['name'], solver['name'])} ({solver['steps']} steps)"
    return (
        "The scan was restored to the most probable healthy image by maximum a posteriori estimation: the evidence"
        f" lower bound of the prior {prior}, with the latent posterior represented by {posterior}, plus an"
        f" {settings['tv']} total-variation data term in {settings['tv_dimensions']} dimensions with weight"
        f" {facts['TVWeight']:g} (Chen et al. 2020, Eq. 6), solved by {solver_text}."
    )


def _detection(saved: SavedResult) -> str:
    settings, facts = saved.facts["Settings"], saved.facts
    kind = {1: "positive (brighter than healthy)", -1: "negative (darker than healthy)"}.get(
        settings.get("sign") or 0, "absolute"
    )
    scored = f"The {kind} residual"
    if facts["Smoothing"]:
        scored += f", smoothed with a Gaussian of {facts['Smoothing']:g} mm standard deviation"
    if settings.get("edge_preserving"):
        scored += " and bounded by the residual of the voxel itself"
    divisors = ["the spread of the scan's own residual"] if settings.get("standardize") else []
    if settings.get("spread_map"):
        divisors.append("the spread of healthy people at the same place of the template")
    if divisors:
        scored += f", divided by {' and by '.join(divisors)}"
    if settings.get("asymmetry"):
        scored += f", less {settings['asymmetry']:g} times what both hemispheres have in common"
    scored += ", is the score."
    if not saved.thresholds:
        return scored + " No threshold was calibrated for these settings."
    listed = ", ".join(f"{value:.3f} ({100 * limit:g} %)" for limit, value in sorted(saved.thresholds.items()))
    return (
        f"{scored} Thresholds came from healthy people alone, such that at most a given share of their brain voxels"
        f" exceeds them: {listed}."
    )
