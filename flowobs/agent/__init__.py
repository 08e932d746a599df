"""The node agent: probes, ring, drain, decode, enrich, forward."""
