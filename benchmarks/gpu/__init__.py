"""One script for one CUDA card: is it right, what does it need, what does it cost, and which method is better?

`python -m benchmarks.gpu --help` tells how to run it; `plan.py` lists the stages.
"""
