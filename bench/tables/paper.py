"""Figures of the paper's Tables 1 and 2: Chen, You, Tezcan and Konukoglu, Medical Image Analysis 2020."""

from __future__ import annotations

METHODS: dict[str, dict[str, tuple[float, float, float, float]]] = {
    "T2w": {
        "VAE (TV)": (0.80, 0.34, 0.36, 0.40),
        "GMVAE, c = 3 (TV)": (0.82, 0.21, 0.39, 0.38),
        "GMVAE, c = 6 (TV)": (0.81, 0.31, 0.40, 0.37),
        "GMVAE, c = 9 (TV)": (0.83, 0.32, 0.45, 0.42),
        "VAE-256": (0.67, 0.06, 0.18, 0.25),
        "VAE-128": (0.69, 0.09, 0.19, 0.26),
        "AAE-128": (0.70, 0.03, 0.18, 0.23),
        "AnoGAN": (0.65, 0.02, 0.10, 0.19),
    },
    "T1w": {
        "VAE (TV)": (0.79, 0.10, 0.11, 0.11),
        "GMVAE, c = 3 (TV)": (0.79, 0.06, 0.09, 0.08),
        "GMVAE, c = 6 (TV)": (0.79, 0.10, 0.12, 0.08),
        "GMVAE, c = 9 (TV)": (0.77, 0.08, 0.10, 0.07),
        "VAE-256": (0.66, 0.00, 0.01, 0.02),
        "VAE-128": (0.64, 0.00, 0.01, 0.01),
        "AAE-128": (0.63, 0.00, 0.01, 0.01),
        "AnoGAN": (0.64, 0.00, 0.01, 0.02),
    },
}
"""AUC, and Dice at the limits of 1, 5 and 10 %, by contrast (T2w: gliomas of BRATS17, T1w: strokes of ATLAS)."""

SUPERVISED_DICE = {"T2w": 0.85, "T1w": 0.50}
"""Dice of the supervised U-Net, which has no other figure there."""
