"""Typed access to the Linux kernel: one call, one check, no policy. Standard library and `podd.errors` only."""
