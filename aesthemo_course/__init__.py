"""The classroom: ballots, votes, pooled results and the checks of exercises."""
