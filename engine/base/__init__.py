"""Words everyone uses: errors, ids, events, clock, units, secrets.  Standard library only."""
