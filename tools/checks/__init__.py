"""The house rules as functions: each takes the tree and returns what breaks the rule, by place."""
