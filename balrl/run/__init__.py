"""What a run is: this package knows agents, environments and data, and puts them together."""
