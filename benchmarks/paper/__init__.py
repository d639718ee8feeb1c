"""Reproduction of Cheng et al., "Layerwise Change of Knowledge in Neural Networks", ICML 2024, of which no code exists.

    python -m benchmarks.paper --size small    # or tiny (seconds), full (the paper's sizes; a GPU)

================  =======================================================================
``settings``      sizes of a run, tasks, pairs, and readings of the paper
``store``         steps of a run, each one file of results; a killed run continues
``data``          data sets, and where a user puts those that are not in a package
``networks``      MLP-7, VGG-11, ResNet-20 and -32
``texts``         BERT-, DistilBERT- and XLNet-shaped classifiers of sentences
``training``      one training loop, resumable after each epoch
``tasks``         a data set and a network: players, layers, probes
``statistics``    curves over layers and orders, with the bootstrap over samples
``claims``        the paper's claims as conditions on these, fixed before any run
``experiments``   what is measured for each task and pair of networks
``verdicts``      verdicts from the files of results
``run``           the steps of a run, in one or several processes
``practice``      three examples of use
``figures``       a picture for each claim, from the files of results
``page``          docs/reproduction.md, from its template and the files of results
================  =======================================================================
"""
