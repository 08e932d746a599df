"""Filters over flow records: one tree, evaluated as a numpy mask (live) or as SQL (history).

A filter is a tree of :class:`And`, :class:`Or`, :class:`Not` and :class:`Match`. :class:`Mask`
runs it over a ``FlowBatch``, :func:`where` makes a WHERE clause of it; both select the same rows.
"""

from flowobs.filters.mask import Mask
from flowobs.filters.parameters import from_parameters
from flowobs.filters.sql import where
from flowobs.filters.tree import (
    EVERYTHING,
    NOTHING,
    And,
    Filter,
    FilterError,
    Match,
    Network,
    Not,
    Op,
    Or,
    Value,
    all_of,
    any_of,
    matches,
    network,
)

__all__ = [
    "EVERYTHING",
    "NOTHING",
    "And",
    "Filter",
    "FilterError",
    "Mask",
    "Match",
    "Network",
    "Not",
    "Op",
    "Or",
    "Value",
    "all_of",
    "any_of",
    "from_parameters",
    "matches",
    "network",
    "where",
]
