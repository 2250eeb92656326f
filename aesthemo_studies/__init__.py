"""What ``results/`` is made of: the protocol, its cells, the neighbours' studies, and the checks behind lesson 8."""
