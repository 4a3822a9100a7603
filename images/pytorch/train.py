"""Trains a small network to be the sine and writes it as TorchScript: train.py FILE"""
import math
import sys

import torch

torch.manual_seed(0)
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(1, 32), torch.nn.Tanh(), torch.nn.Linear(32, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
x = torch.linspace(-math.pi, math.pi, 512).unsqueeze(1)
y = torch.sin(x)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(1500):
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
    if step == 1000:
        optimizer.param_groups[0]["lr"] = 0.001
worst = (model(x) - y).abs().max().item()
print("the largest error is %.4f" % worst)
if worst > 0.02:
    sys.exit("that is too much")
torch.jit.script(model).save(sys.argv[1])
