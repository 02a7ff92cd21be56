"""Desired state: PFs and VFs as a file wants them; plan, apply, revert."""
