"""Load a server, check every answer, and break it on purpose.

`request`, `answer`, and `protocols` encode requests and parse answers; `checking` compares answers; `synthetic` makes
requests that can be told apart. `connection` and `closed_loop` send requests one after another and know nothing of
Grad-CAM (the benchmark uses them, too). `traffic`, `misbehaving_clients`, `load_target`, `resources`,
`scenario_report`, `scenarios`, and `reliability` test faults; `plan`, `users`, `baseline`, `load_arguments`,
`load_summary`, and `load_test` test load with Locust. Tests and `tools.benchmarks` may import from here.
"""
