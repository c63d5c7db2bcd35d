"""What this machine has, and what each stage would use or lacks; see ``dcsnas doctor``."""
