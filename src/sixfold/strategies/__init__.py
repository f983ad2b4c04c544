"""The six families of strategies, as data."""
