"""Load: what arrives when, what it says, how it was answered. One small module per question."""
