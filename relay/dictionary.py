"""The endpoint table all agents' records are decoded into, and when it is thrown away."""

from __future__ import annotations

import weakref

from flowobs._proto.flowobs.v1 import flow_pb2 as pb
from flowobs.batch import Endpoints, FlowBatch, Strings
from flowobs.wire import Decoder

MAX_STRINGS = 500_000


class Dictionary:
    """A shared table only grows (pods come and go); this one is replaced when it is too large.

    A batch keeps the table it was decoded into, so old batches stay valid and old tables go with
    the last of them. Batches of different generations cannot be concatenated.
    """

    def __init__(self, limit: int = MAX_STRINGS) -> None:
        self.generation = 1
        self.endpoints = Endpoints(Strings())
        self._least = limit
        self._limit = limit
        self._agents: weakref.WeakSet[AgentDictionary] = weakref.WeakSet()

    def agent(self) -> AgentDictionary:
        """A new agent epoch's view of the table."""
        made = AgentDictionary(self)
        self._agents.add(made)
        return made

    def current(self) -> Endpoints:
        """The table to decode into now."""
        if max(len(self.endpoints), len(self.endpoints.strings)) > self._limit:
            self.endpoints = Endpoints(Strings())
            self.generation += 1
            # What live agents use comes back at once; a limit below that would rotate forever.
            self._limit = max(self._least, 2 * sum(a.size for a in self._agents))
        return self.endpoints


class AgentDictionary:
    """Decodes one agent epoch's messages; keeps what the agent said, to learn it again."""

    def __init__(self, shared: Dictionary) -> None:
        self._shared = shared
        self._decoder = Decoder(shared.current())

    @property
    def size(self) -> int:
        """Strings and endpoints the agent told of."""
        return self._decoder.size

    def learn(self, message: pb.Dictionary) -> None:
        """Take new strings and endpoints. Raises WireError."""
        self._follow()
        self._decoder.dictionary(message)

    def decode(self, message: pb.MicroBatch) -> FlowBatch:
        """The message's records, of the shared table. Raises WireError."""
        self._follow()
        return self._decoder.batch(message)

    def _follow(self) -> None:
        table = self._shared.current()
        if self._decoder.endpoints is not table:
            self._decoder.rebind(table)
