"""Devices that kubelet gave to a pod, and which network gets which."""
