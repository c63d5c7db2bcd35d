"""Search spaces, architectures and their costs as plain values, without torch."""
