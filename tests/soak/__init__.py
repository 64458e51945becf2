"""Real traffic over all services and both eras while versions come and go: `make soak`."""
