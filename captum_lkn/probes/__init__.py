"""Linear probes: what a layer knows of a model's task, read by a linear classifier.

A probe is trained on a layer's features of unmasked samples, with the network frozen and the task's own labels; its
logits say what the layer alone could tell (Cheng et al., ICML 2024, section 3.2.2 and appendix D). Column c of a probe
is column c of the model's output. What exactly is minimised, and the penalty in scikit-learn's terms, is in
:mod:`captum_lkn.probes.logistic`.
"""

from captum_lkn.probes.collection import MEMORY_LIMIT, LinearProbes
from captum_lkn.probes.linear import Accuracy, LinearProbe

__all__ = ["MEMORY_LIMIT", "Accuracy", "LinearProbe", "LinearProbes"]
