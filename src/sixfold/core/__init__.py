"""Words that every room shares: requests, configuration, metrics, records, errors.

Standard library and msgspec only.
"""
