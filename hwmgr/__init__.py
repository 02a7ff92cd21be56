"""Device plane: one node's PFs, VFs, drivers and netdevs, and the record of who holds which.

Knows no CNI and no Kubernetes. Importing the package loads no client library.
"""
