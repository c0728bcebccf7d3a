"""`hbo` in several processes, of which the second moves its probabilities differently."""

import os

from hbo.cli import main
from hbo.core.actors import SoftmaxActor

if os.environ["RANK"] == "1":
    learn = SoftmaxActor.learn
    SoftmaxActor.learn = lambda self, reward: learn(self, [value * (i + 1) for i, value in enumerate(reward)])
main()
