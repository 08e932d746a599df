"""The services of a request chain as people run it: gateway (nginx), web service, catalogue."""
