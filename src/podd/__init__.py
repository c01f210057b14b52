"""podd: a daemon that runs Kubernetes Pods on one Linux host, by drivers."""

__version__ = "0.1.0"
