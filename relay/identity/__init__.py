"""Names for everybody: one watch of the cluster, and a stream of what it learns to each agent."""
