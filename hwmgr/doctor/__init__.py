"""What is wrong with a node, by which evidence, and its cure."""
