"""Interactions as a graph of networkx."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from captum_lkn._common.arguments import checked
from captum_lkn.interactions import Interaction, Interactions

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["to_networkx"]


@checked("found", "interactions")
def to_networkx(found: Interactions, interactions: Sequence[Interaction] | None = None) -> nx.MultiGraph:
    """Return interactions as a graph: players and larger sets are nodes, pairs are edges.

    Args:
        found: The interactions of one sample.
        interactions: Those that become edges, such as ``found.top(20)``. None: the salient ones.

    Returns:
        A multigraph, since a pair may have an AND and an OR effect. A node is the label of a player, with the
        attributes ``bipartite=0``, ``number``, ``shapley`` and ``effect`` (its own). A pair is an edge with ``kind``
        (also the edge's key), ``effect`` and ``weight``, its absolute value. A larger set is a node by its name, such
        as ``"a & b & c"``, followed by its players' numbers where that name is taken, with ``bipartite=1``, ``kind``,
        ``effect`` and ``order``, and has an edge with its ``kind``, ``effect`` and ``weight`` to each of its members.

    Raises:
        ImportError: networkx is not installed.

    Example:
        >>> import torch
        >>> from captum_lkn import AndOrInteraction
        >>> method = AndOrInteraction(lambda x: x[:, 0] * x[:, 1] - 2 * x.prod(1), score="logit", noise=0)
        >>> found = method.attribute(torch.ones(1, 3), player_names=["a", "b", "c"])
        >>> graph = found[0].to_networkx()
        >>> sorted(graph.edges(data="effect"))
        [('a', 'a & b & c', -2.0), ('a', 'b', 1.0), ('b', 'a & b & c', -2.0), ('c', 'a & b & c', -2.0)]
        >>> graph.nodes["a & b & c"]["kind"], graph.nodes["c"]["number"]
        ('and', 2)
    """
    try:
        import networkx as nx
    except ImportError as error:
        raise ImportError("to_networkx needs networkx: pip install 'captum-lkn[networkx]'") from error
    graph: Any = nx.MultiGraph()
    shapley = found.shapley_values().tolist()
    for number, label in enumerate(found.labels):
        graph.add_node(label, bipartite=0, number=number, shapley=shapley[number], effect=found.effect(number))
    for one in found.salient() if interactions is None else interactions:
        shared = {"kind": one.kind, "effect": one.effect, "weight": abs(one.effect)}
        if one.order == 1:
            continue  # an attribute of the player
        if one.order == 2:
            graph.add_edge(*one.players, key=one.kind, **shared)
            continue
        # A label may hold "&", so that two sets, or a set and a player, have the same name.
        node = f"{one.name} {list(one.members)}" if one.name in graph else one.name
        graph.add_node(node, bipartite=1, kind=one.kind, effect=one.effect, order=one.order)
        for label in one.players:
            graph.add_edge(label, node, key=one.kind, **shared)
    return graph
