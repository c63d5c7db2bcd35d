"""Pictures and reports made from run folders."""
