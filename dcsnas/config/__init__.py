"""Files and their validation: what every stage reads and writes."""
