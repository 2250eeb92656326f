# A study of results/protocol.json on a cluster, one job a cell. Without a cluster: make study STUDY=<name>.
#     snakemake --directory runs/studies --config study=compare form=long root=<folder> --executor slurm --jobs 50
# Then the table: make study STUDY=<name> ARGS=--gather
import os
import sys

from aesthemo_studies import comparisons, protocol

OUT = os.getcwd()
GRID = protocol.study(config["study"], config.get("form", "first"))
COMMAND = [sys.executable, "-m", "aesthemo_studies", "study", "--study", GRID.name, "--form", GRID.form, "--out", OUT]
COMMAND += ["--root", config["root"]] if "root" in config else []


rule all:
    input: expand("{study}/rows/{cell}.csv", study=GRID.name, cell=comparisons.study(GRID, OUT).cells)


rule cell:
    output: "{study}/rows/{cell}.csv"
    threads: 1  # the same bits however many jobs run at once
    params: command=COMMAND
    shell: "OMP_NUM_THREADS={threads} {params.command:q} --cell {wildcards.cell:q}"
