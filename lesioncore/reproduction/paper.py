"""Figures of the paper's Tables 1 to 3: Chen, You, Tezcan and Konukoglu, Medical Image Analysis 64:101713, 2020."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A method's row of a table.

    Attributes
    ----------
    name : str
        Name of the model in a reproduction.
    label : str
        What the tables call it.
    auc : float or None
        Area under the ROC curve of all voxels.
    dice : tuple of (float, float)
        Mean and standard deviation over people of the Dice at the limits of 1, 5 and 10 %, and at the threshold that is
        best by the labels (the paper's DSC_AUC); empty where the paper has none.
    tv_weight : float or None
        The weight λ that it found.
    """

    name: str
    label: str
    auc: float | None
    dice: tuple[tuple[float, float], ...]
    tv_weight: float | None = None


TABLE_1 = (
    Row("vae", "VAE (TV)", 0.80, ((0.34, 0.20), (0.36, 0.27), (0.40, 0.24), (0.34, 0.18)), 2.4),
    Row("gmvae3", "GMVAE, c = 3 (TV)", 0.82, ((0.21, 0.20), (0.39, 0.22), (0.38, 0.20), (0.35, 0.20)), 5.0),
    Row("gmvae6", "GMVAE, c = 6 (TV)", 0.81, ((0.31, 0.14), (0.40, 0.22), (0.37, 0.16), (0.33, 0.19)), 4.8),
    Row("gmvae9", "GMVAE, c = 9 (TV)", 0.83, ((0.32, 0.23), (0.45, 0.20), (0.42, 0.19), (0.36, 0.19)), 4.0),
    Row("vae256", "VAE-256", 0.67, ((0.06, 0.06), (0.18, 0.13), (0.25, 0.20), (0.20, 0.14))),
    Row("vae128", "VAE-128", 0.69, ((0.09, 0.06), (0.19, 0.15), (0.26, 0.17), (0.22, 0.14))),
    Row("aae128", "AAE-128", 0.70, ((0.03, 0.03), (0.18, 0.14), (0.23, 0.15), (0.23, 0.13))),
    Row("anogan", "AnoGAN", 0.65, ((0.02, 0.02), (0.10, 0.06), (0.19, 0.13), (0.19, 0.10))),
)
"""Gliomas of BRATS17, T2w."""

TABLE_2 = (
    Row("vae", "VAE (TV)", 0.79, ((0.10, 0.06), (0.11, 0.05), (0.11, 0.05), (0.11, 0.07)), 3.0),
    Row("gmvae3", "GMVAE, c = 3 (TV)", 0.79, ((0.06, 0.06), (0.09, 0.07), (0.08, 0.07), (0.07, 0.07)), 3.0),
    Row("gmvae6", "GMVAE, c = 6 (TV)", 0.79, ((0.10, 0.09), (0.12, 0.12), (0.08, 0.07), (0.08, 0.08)), 4.0),
    Row("gmvae9", "GMVAE, c = 9 (TV)", 0.77, ((0.08, 0.07), (0.10, 0.08), (0.07, 0.07), (0.08, 0.07)), 6.0),
    Row("vae256", "VAE-256", 0.66, ((0.00, 0.00), (0.01, 0.01), (0.02, 0.02), (0.02, 0.02))),
    Row("vae128", "VAE-128", 0.64, ((0.00, 0.00), (0.01, 0.01), (0.01, 0.01), (0.01, 0.01))),
    Row("aae128", "AAE-128", 0.63, ((0.00, 0.00), (0.01, 0.01), (0.01, 0.01), (0.01, 0.01))),
    Row("anogan", "AnoGAN", 0.64, ((0.00, 0.00), (0.01, 0.01), (0.02, 0.02), (0.01, 0.01))),
)
"""Strokes of ATLAS, T1w."""

TABLE_3 = (
    Row("gmvae1_256", "c = 1, dim_z = 256", 0.80, ((0.32, 0.22), (0.34, 0.24), (0.36, 0.24), (0.32, 0.19))),
    Row("gmvae1", "c = 1, dim_z = 512", 0.80, ((0.33, 0.24), (0.36, 0.24), (0.39, 0.23), (0.35, 0.19))),
    Row("gmvae1_1024", "c = 1, dim_z = 1024", 0.79, ((0.30, 0.22), (0.31, 0.23), (0.33, 0.23), (0.31, 0.18))),
    Row("gmvae3_256", "c = 3, dim_z = 256", 0.82, ((0.20, 0.18), (0.32, 0.23), (0.30, 0.21), (0.30, 0.18))),
    Row("gmvae3", "c = 3, dim_z = 512", 0.82, ((0.21, 0.20), (0.39, 0.22), (0.38, 0.20), (0.35, 0.20))),
    Row("gmvae3_1024", "c = 3, dim_z = 1024", 0.82, ((0.20, 0.19), (0.34, 0.19), (0.33, 0.19), (0.32, 0.20))),
    Row("gmvae6_256", "c = 6, dim_z = 256", 0.81, ((0.30, 0.21), (0.40, 0.18), (0.35, 0.20), (0.34, 0.18))),
    Row("gmvae6", "c = 6, dim_z = 512", 0.81, ((0.32, 0.23), (0.44, 0.21), (0.41, 0.20), (0.35, 0.18))),
    Row("gmvae6_1024", "c = 6, dim_z = 1024", 0.81, ((0.29, 0.22), (0.38, 0.23), (0.35, 0.19), (0.33, 0.19))),
    Row("gmvae9_256", "c = 9, dim_z = 256", 0.82, ((0.32, 0.30), (0.38, 0.19), (0.36, 0.15), (0.31, 0.15))),
    Row("gmvae9", "c = 9, dim_z = 512", 0.83, ((0.31, 0.23), (0.45, 0.20), (0.42, 0.19), (0.36, 0.19))),
    Row("gmvae9_1024", "c = 9, dim_z = 1024", 0.82, ((0.30, 0.14), (0.38, 0.22), (0.35, 0.20), (0.34, 0.18))),
)
"""GMVAE (TV) by components and latent channels, BRATS17."""

SUPERVISED_DICE = {"T2w": 0.85, "T1w": 0.50}
"""Dice of the supervised U-Net in Tables 1 and 2, which has no other figure there."""
