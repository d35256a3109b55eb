"""How an update runs: as it is written, compiled, captured, or as one of a population's."""
