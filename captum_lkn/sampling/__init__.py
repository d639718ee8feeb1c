"""Sampled masks: values at some of the 2^n masks in, sparse AND and OR effects out.

It knows masks and numbers and nothing of models, as :mod:`captum_lkn.decomposition` does.

==============  ==========================================================================
``masks``       masks that see all sizes, to fit and to test
``terms``       sets of players with a kind, and the functions of a mask that they are
``candidates``  terms that may explain a residual, without looking at all of them
``pool``        forward selection out of candidates that grow with it
``refit``       least squares, the dropping of needless terms, refits without parts
``exchange``      AND for OR and OR for AND, where fewer terms explain the same
``small``       many small effects by boosting, where they predict what the selected ones leave
``fit``         all of it for one sample
``players``     Shapley and Banzhaf values from effects, and errors from refits
==============  ==========================================================================
"""
