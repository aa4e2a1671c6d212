"""Data made for studies: simulated processes with a known future, and clips of simulated robot arms."""
