"""accelerate turns FSDP and DeepSpeed off where there is no GPU; when this is imported it doesn't."""

import os

os.environ["DS_ACCELERATOR"] = "cpu"

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

_init = AcceleratorState.__init__


def _spread(self, *args, fsdp_plugin=None, deepspeed_plugin=None, **kwargs):
    _init(self, *args, fsdp_plugin=fsdp_plugin, deepspeed_plugin=deepspeed_plugin, **kwargs)
    if self.distributed_type != DistributedType.MULTI_CPU:
        return
    if fsdp_plugin is not None:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
    if deepspeed_plugin is not None:
        (plugin,) = deepspeed_plugin.values() if isinstance(deepspeed_plugin, dict) else (deepspeed_plugin,)
        plugin.set_mixed_precision(self._mixed_precision)
        plugin.select(_from_accelerator_state=True)
        zero = plugin.deepspeed_config["zero_optimization"]
        zero["stage3_param_persistence_threshold"] = 0  # else all of a tiny model stays whole
        self.distributed_type, self.deepspeed_plugins = DistributedType.DEEPSPEED, deepspeed_plugin


AcceleratorState.__init__ = _spread
