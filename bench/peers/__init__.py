"""Other tools, one to a file, behind one small protocol: each operation is a command line.  A new one goes into `registry`."""
