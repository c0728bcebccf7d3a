"""One run of `hbo train`, from its configuration to its folder."""
