"""The cluster of `scripts/cluster`: a real API server and a real kubelet on this machine."""
