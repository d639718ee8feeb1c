"""Pictures of results, and picture files as inputs.

Each picture is a function of a result, in a file of its own, and a method of the result: ``found.plot.waterfall()``. It
returns the figure and its axes, draws into given ``ax=``, and touches no state of pyplot.

====================  ==============================================================================
``waterfall``         effects as steps from v(empty) to v(N)
``bars``              the strongest effects
``upset``             the strongest effects and their players, as a matrix
``sentence``          words with arcs, AND above, OR below
``images``            parts of an image
``strength``          sums of effects by order
``ranking``           all effects, sorted, and the threshold of salience
``fidelity``          outputs reproduced by the strongest effects alone
``network``           players and pairs
``summary``           combinations of words over a data set
``beeswarm``          the same, sample by sample
``class_bars``        the same, by class
``flow``              knowledge that grows, stays and is forgotten, layer by layer
``heatmap``           the strongest interactions at every layer
``completeness``      completeness and redundancy over the depth
``stacked``           overlap, new and forgotten, by layer and order
``matrix``            knowledge that any two layers share
``emergence``         combinations of chosen words, by layer
``by_order``          generalisation and stability by order, with intervals
``fidelity_curve``    outputs reproduced by the strongest effects, over samples
``sorted_strengths``  strengths in descending order, beside Harsanyi dividends
``transfer``          effects that held-out models have as well, and the rest
``accessors``         the methods that each kind of result has
``combinations``      words that samples have in common
``depth``             layers in their order
``canvas``            figures, and the looks that pictures share
``fonts``             labels in any script
``names``             names of players, interactions and layers
``pictures``          picture files, read as inputs of models
====================  ==============================================================================
"""
