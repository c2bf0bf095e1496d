"""What fastgw costs beside nginx and HAProxy, on this machine, measured the same way for all.

`python -m benchmarks --help` says how to run it. One gateway ("peer") at a time runs on one core; the load
generator and the backend share another. The figure to trust is CPU time per request: it depends little on how
well the load keeps up, and as a ratio within one round little on what else the machine was doing.
"""
