"""Run Ops against nodes, watch their health and keep what they missed."""

from distcache_django.cluster.cluster import Cluster

__all__ = ["Cluster"]
