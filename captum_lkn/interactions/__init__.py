"""The result objects: :class:`Interactions` of one sample, and :class:`InteractionsBatch` of several.

=============  ==================================================================
``sample``     ``Interactions``: what one sample's value table decomposes into
``batch``      ``InteractionsBatch``: a sequence of them
``layout``     ``InputLayout``: the way from players back to the input's scalars
``ranking``    ``Interaction``, ``OrderStrength``: effects as sorted lists
``rendering``  text and HTML
``checks``     what the parts of a result must be
``frame``      pandas, imported when asked for
``packing``    samples as tensors and JSON, for a file
=============  ==================================================================
"""

from captum_lkn.interactions.batch import InteractionsBatch
from captum_lkn.interactions.layout import InputLayout
from captum_lkn.interactions.ranking import Interaction, OrderStrength
from captum_lkn.interactions.sample import Interactions

__all__ = ["InputLayout", "Interaction", "Interactions", "InteractionsBatch", "OrderStrength"]
