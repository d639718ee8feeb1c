"""Tables in, effects out: the lattice of subsets, indices, and the sparse decomposition."""
