"""A user's program, for mypy: with py.typed in the package the types of hbo are known, and a wrong one is found."""

from hbo import HBOConfig, build_mixture

every: int | dict[str, int] = HBOConfig(update_every=100).probes
rows: int = HBOConfig().probes
print(HBOConfig().no_such_field)  # type: ignore[attr-defined]
build_mixture(3)  # type: ignore[arg-type]
