"""Words that every room shares: requests, configuration, metrics, errors. Standard library and msgspec only."""
