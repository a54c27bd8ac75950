"""One thread per test process: the default run uses as many processes as there are cores."""

import torch

torch.set_num_threads(1)
