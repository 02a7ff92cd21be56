"""What stands in the folder of the CNI plugins: shim.c and its twin. Never imported."""
