"""Measure servers and explanation methods against baselines.

Servers: `systems` builds the systems under test (`baselines/` holds other people's handlers), `measurement` measures
one of them, `server_results` computes ratios, tables, and charts, `servers` is the command.
Methods: `implementations` wraps this project and other libraries, `timing` times them in interleaved rounds, `contest`
runs what is compared, `method_results` prints and records, `methods` is the command.
Exported graphs: `graphs` compares explained graphs with their part for labels only, and is the command.
Commands do not import each other. Only commands and tests import this package.
"""
