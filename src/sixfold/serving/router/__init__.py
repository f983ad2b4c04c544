"""Many engines behind one address. Empty until it is built."""
