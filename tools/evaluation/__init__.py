"""Measure how faithful explanations are.

`measures` computes the scores of one map, `baseline_maps` makes maps that do not depend on the network, `model` splits
a network and observes it, `measurement` explains and measures images, `summary` averages over images, `report` writes
tables and the plot, `evaluate` is the command. Each imports only those named before it; nothing else imports this
package.
"""
