"""Where to cut a stream: a leaf, usable on its own.  `reference` is the rule, `native/` the speed."""
