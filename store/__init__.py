"""Places that keep bytes: a leaf, usable on its own.  `base` has the promises."""
