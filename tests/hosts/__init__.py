"""Several hosts on this machine: what starts on them, what is cut and killed, what must follow."""
