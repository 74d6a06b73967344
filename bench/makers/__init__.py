"""Data makers with seeds: the same arguments give the same bytes on every machine, as a stream that is never held whole."""
