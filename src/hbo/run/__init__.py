"""One run of `hbo train`, from its configuration to its folder."""

from hbo.extras import check_extra

# Before any module of this room asks for what isn't there.
check_extra("train", "training by a configuration")
