"""`hbo` under DeepSpeed on CPUs: accelerate turns it off where there is no GPU, so here it is told otherwise."""

import os

os.environ["DS_ACCELERATOR"] = "cpu"

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

from hbo.cli import main

_init = AcceleratorState.__init__


def _sharded(self, *args, deepspeed_plugin=None, **kwargs):
    _init(self, *args, deepspeed_plugin=deepspeed_plugin, **kwargs)
    if self.distributed_type == DistributedType.MULTI_CPU and deepspeed_plugin is not None:
        (plugin,) = deepspeed_plugin.values() if isinstance(deepspeed_plugin, dict) else (deepspeed_plugin,)
        plugin.set_mixed_precision(self._mixed_precision)
        plugin.select(_from_accelerator_state=True)
        zero = plugin.deepspeed_config["zero_optimization"]
        zero["stage3_param_persistence_threshold"] = 0  # else all of a tiny model stays whole
        self.distributed_type, self.deepspeed_plugins = DistributedType.DEEPSPEED, deepspeed_plugin


AcceleratorState.__init__ = _sharded
main()
