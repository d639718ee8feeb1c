"""Linear probes and other read-outs of layers.

A linear probe is a linear classifier of a layer's features. It is trained on unmasked samples and the labels of the
model's own task, with the network frozen (Cheng et al., ICML 2024, section 3.2.2 and appendix D). Column c of a probe
stands for column c of the model's output. :mod:`captum_lkn.probes.logistic` states the minimised function, and its
penalty in scikit-learn's terms.
"""

from captum_lkn.probes.collection import MEMORY_LIMIT, LinearProbes
from captum_lkn.probes.linear import Accuracy, LinearProbe

__all__ = ["MEMORY_LIMIT", "Accuracy", "LinearProbe", "LinearProbes"]
