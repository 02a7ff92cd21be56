"""The lab: builds, starts, restores and drives a virtual machine with two SR-IOV NICs."""
