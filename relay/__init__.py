"""The flowobs relay: takes records from agents, stores them and answers questions."""
