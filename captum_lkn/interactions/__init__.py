"""Results: :class:`Interactions` of one sample, :class:`InteractionsBatch` of several, and the same of sampled masks.

===================  ==================================================================
``sample``           ``Interactions``: the effects of one sample's value table
``table``            what it knows from the value table alone
``listing``          what it knows from the effects alone
``order_strengths``  strengths by kind and order, as a list
``ranges``           ranges of effects over explanations of about the same cost
``sampled``          ``SampledInteractions``: effects of one sample, fitted to sampled masks
``batch``            ``InteractionsBatch`` and ``SampledBatch``: sequences of them
``by_layer``         ``LayerInteractions``: a dict from layer to batch
``layout``           ``InputLayout``: the map from players back to the input's scalars
``ranking``          ``Interaction``: effects as sorted lists
``labels``           labels of players: told apart, and looked up
``rendering``        text and HTML; ``sampled_rendering`` those of sampled masks
``checks``           checks of numbers, masks and counts
``frame``            pandas, imported when asked for
``packing``          samples as tensors and JSON, for a file
===================  ==================================================================
"""

from captum_lkn.decomposition.effects import OrderStrength
from captum_lkn.interactions.batch import InteractionsBatch, SampledBatch
from captum_lkn.interactions.layout import InputLayout
from captum_lkn.interactions.ranking import Interaction
from captum_lkn.interactions.sample import Interactions
from captum_lkn.interactions.sampled import SampledInteractions

__all__ = [
    "InputLayout",
    "Interaction",
    "Interactions",
    "InteractionsBatch",
    "OrderStrength",
    "SampledBatch",
    "SampledInteractions",
]
