"""People and garments drawn by the program, for the demo and the tests."""
