"""Exchange with other libraries: shapiq's interaction values, games and plots; networkx.

=============  ==================================================================================
``values``     :func:`to_shapiq` and :func:`from_shapiq`: results as shapiq's ``InteractionValues``
``games``      :func:`value_function`: a model as a game for shapiq's approximators;
               :func:`explain_game`: interactions of any game
``graphs``     :func:`to_networkx`: interactions as a graph
=============  ==================================================================================

shapiq and networkx are imported where they are used.
"""

from captum_lkn.interop.games import ValueFunction, explain_game, value_function
from captum_lkn.interop.graphs import to_networkx
from captum_lkn.interop.values import from_shapiq, to_shapiq

__all__ = ["ValueFunction", "explain_game", "from_shapiq", "to_networkx", "to_shapiq", "value_function"]
