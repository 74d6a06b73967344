"""A vendor's tools with manners: a leaf, usable on its own.  `base` has the promises."""
