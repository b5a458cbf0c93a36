"""Unsupervised lesion detection in brain MRI by MAP restoration under a learned prior of healthy anatomy.

>>> import lesioncore as lc
>>> prior = lc.load_prior("phantom-t2")
>>> result = lc.restore("sub-01_T2w.nii.gz", prior)  # doctest: +SKIP
>>> result.save("out/")  # doctest: +SKIP

Research software, not a medical device.
"""

import lazy_loader

__version__ = "0.1.0"

# What __init__.pyi lists is imported when it is first used, so that the command line answers before torch is loaded.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
