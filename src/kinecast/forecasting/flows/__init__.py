"""Normalising flows with vector conditions (`realnvp`), and Markov kernels that refine what they sample (`mcmc`).

They know tensors only: nothing of motion, windows or forecasters.
"""
