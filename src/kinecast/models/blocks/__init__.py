"""Building blocks shared by networks, and source states."""
