"""One file a claim, by the name of its notebook: what is trained, what is measured, what follows."""
