"""Both tasks fully labelled: whole networks fine-tuned on disjoint training sets of PARA, which asks for a GPU."""
