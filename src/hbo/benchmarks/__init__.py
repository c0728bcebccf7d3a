"""Evaluation on benchmarks through lm-eval, EleutherAI's harness: which tasks, on which rows, and what came of it."""
