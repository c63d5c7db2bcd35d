"""Many runs at a time: what there is, how far it is, how good, and a page of it for a browser."""
