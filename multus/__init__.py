"""CNI plane: the runtime's call in, delegates out, one result back."""
