# The cells of a study of results/protocol.json, several at a time, here or on a cluster: make study STUDY=<name>.
# aesthemo_studies/workflow.py starts it, with a folder of its own as working directory, and mends what a kill left behind.
import os
import sys

from aesthemo_studies import cells as study_runs
from aesthemo_studies import protocol as studies

OUT = os.path.dirname(os.getcwd())
STUDY = studies.study(config["study"], config["form"])
CELLS = {study_runs.rows_file(STUDY, cell, OUT).stem: i for i, cell in enumerate(studies.cells(STUDY))}
COMMAND = [sys.executable, "-m", "aesthemo_studies", "study", "--study", STUDY.name, "--form", STUDY.form, "--out", OUT]
COMMAND += ["--root", config["root"]] if config.get("root") else []


rule all:
    input: expand("rows/{cell}.csv", cell=CELLS)


rule cell:
    output: "rows/{cell}.csv"  # a file, written whole: a folder would be deleted, with all its runs, when a job fails
    threads: 1  # the same bits however many jobs run at once
    params:
        command=COMMAND,
        number=lambda wildcards: CELLS[wildcards.cell],
    shell: "OMP_NUM_THREADS={threads} {params.command:q} --cell {params.number}"
