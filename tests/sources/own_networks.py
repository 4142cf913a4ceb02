"""A module of the user's, and how its networks are asked for."""

from ltkit.settings import LoadSettings

CODE = '''
import torch
from torch import nn

class Net(nn.Module):
    """Two convolutions; named parts as nobody else has them."""
    def __init__(self, classes=3, width=8, dropout=0.0):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU())
        self.mix = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.answer = nn.Linear(2 * width, classes)
    def forward(self, x):
        return self.answer(torch.relu(self.mix(self.stem(x))).mean((2, 3)))

class Zoo(Net):
    """As packages have it: made by a class method, from a name; dropout before the head."""
    @classmethod
    def from_name(cls, name, **override):
        return cls(width={"small": 4, "large": 8}[name], **override)
    def forward(self, x):
        x = torch.relu(self.mix(self.stem(x))).mean((2, 3))
        return self.answer(nn.functional.dropout(x.view(len(x), -1), 0.5, self.training))

class Late(Net):
    def forward(self, x):
        return super().forward(x).softmax(1)

class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = nn.EmbeddingBag(50, 6), nn.Linear(6, 3)
    def forward(self, tokens):
        return self.out(self.table(tokens))

def grey():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

def halved(image):
    import numpy as np
    small = np.asarray(image.resize((16, 16))) / 127.5 - 1
    return torch.tensor(small).permute(2, 0, 1).float()

def broken(image):
    raise ValueError("no such picture")

def uneven(image):
    return torch.zeros(3, image.width, 4)

made = Net()
number = 3
def fails(): raise RuntimeError("not today")
'''

NAMES = ("ant", "bee", "cat")


def settings(name="Net", *arguments, **more):
    return LoadSettings(model=f"my_networks:{name}", model_args=arguments, **more)
