"""Solvers of the sparse AND-OR decomposition.

=============  ===========================================================================================
``dispatch``   which solver solves which table
``problem``    the optimisation problem of a batch of tables: its operators, its objective, its dual bound
``admm``       first-order steps for all tables at once: from nothing to within some percent
``first_order``  many players and many effects: first-order steps alone
``newton``     the linear systems of the interior point, small because few effects are in play
``point``      the unknowns of the interior point, and the effects that are in play
``interior``   the steps of the interior point, from where ADMM stopped to an optimum with a certificate
``run``        the interior point's steps for a batch, and the end of each table: guesses, crossover, vertex
``exact``      from ADMM's iterate to the exact optimum: which runs a table needs, other starts, little slack
``guess``      the exact optimum of a batch of tables on guessed sets of effects and rows, where the guess is right
``bordered``   the guess's equations where few effects and rows have changed since they were factored
``crossover``  from an approximate optimum to the exact one, a pivot at a time
``narrow``     tables with little slack, by way of a table with smaller effects
``simplex``    from an approximate optimum of a linear program without slack to an optimal vertex
``vertex``     from an optimum of a linear program to a vertex of its optimal face
``equations``  the linear equations of the crossover
``equality``   tables without slack and with few effects, by a semismooth Newton method
``generation``  many players and few effects: the exact method on some effects and rows, more as they are needed
``joint``      tables that are decomposed together, so that they share effects where they can
``highs``      the same problem as an explicit linear program for SciPy's HiGHS, an independent check
=============  ===========================================================================================

Nothing here is public; :func:`captum_lkn.decompose` is.
"""
