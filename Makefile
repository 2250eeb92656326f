# Each target is run.py's; 'python run.py TARGET' does the same without make. Variables given here reach it as they are:
#     make reproduce DATA=oasis ROOT=../oasis
PYTHON ?= python3
TARGETS = reproduce test browser notebooks study bench doctor fetch lab inspect soak course book lock

.PHONY: help $(TARGETS)
help:
	@"$(PYTHON)" run.py help

$(TARGETS):
	@"$(PYTHON)" run.py $@
