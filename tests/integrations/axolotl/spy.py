"""A plugin beside ours that notes what the trainer's batches hold."""

import seen
from axolotl.integrations.base import BasePlugin


class Spy(BasePlugin):
    def post_trainer_create(self, cfg, trainer):
        seen.watch()
