"""The ``multus-daemon``: the engine, long-lived, behind one socket."""
