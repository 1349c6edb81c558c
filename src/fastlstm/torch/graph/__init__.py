"""Calls in torch's graphs: the autograd Function, the registered operator, and what others ask of that."""
