"""Array types that the package takes: NumPy arrays and torch tensors."""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch

NumpyArray: TypeAlias = npt.NDArray[Any]
Array: TypeAlias = NumpyArray | torch.Tensor
ArrayT = TypeVar("ArrayT", NumpyArray, torch.Tensor)


def to_numpy(array: Array, name: str) -> NumpyArray:
    """View a NumPy array or a tensor of any device as a NumPy array, copying only where it must.

    Parameters
    ----------
    array : numpy.ndarray or torch.Tensor
        Any shape and real dtype; bfloat16, which NumPy lacks, becomes float32.
    name : str
        The argument's name, for the error.

    Raises
    ------
    TypeError
        If `array` is neither, is complex, or is a masked array, whose mask no computation here would heed.
    """
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        result: NumpyArray = (array.float() if array.dtype == torch.bfloat16 else array).numpy()
    elif isinstance(array, np.ma.MaskedArray):
        raise TypeError(
            f"{name}: got a masked array, whose mask would be lost; give array.filled(0) and, where it says what is no"
            " brain, ~array.mask as the brain mask"
        )
    elif isinstance(array, np.ndarray):
        result = array
    else:
        raise TypeError(f"{name}: got {type(array).__name__}, expected a NumPy array or a torch tensor")
    if result.dtype.kind not in "buif":
        raise TypeError(f"{name}: got dtype {result.dtype}, expected real numbers")
    return result
