"""Pods' networks by CNI: plugins are run as libcni runs them, and nothing that they gave is ever lost."""
