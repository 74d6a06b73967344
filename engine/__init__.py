"""The engine: base < format < plan < repo < flow < ops < app.  `strandline` is the shop window."""
