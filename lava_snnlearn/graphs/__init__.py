"""Graphs of facts as message-passing networks see them, and what spikes with delays compute on them."""

from lava_snnlearn.graphs.graph import Graph
from lava_snnlearn.graphs.neighbourhood import Neighbourhood, neighbourhood
from lava_snnlearn.graphs.shortest_paths import ShortestPaths, shortest_paths

__all__ = ["Graph", "Neighbourhood", "ShortestPaths", "neighbourhood", "shortest_paths"]
