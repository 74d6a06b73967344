"""A repository over a store: keys, leases, index, packs, snapshots."""
