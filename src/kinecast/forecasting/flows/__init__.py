"""Normalising flows given a vector (`layers`, `realnvp`), and Markov kernels that refine their samples (`mcmc`).

They depend on tensors only, not on motion, windows or forecasters.
"""
