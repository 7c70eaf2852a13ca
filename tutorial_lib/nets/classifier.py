"""Two small classifiers, unlike each other, in whose features samples are judged (notebook 06b)."""

from torch import Tensor, nn
from torch.nn import functional as F


class Classifier(nn.Module):
    """A small convolutional network for 28 x 28 grey images.

    forward: x (B, 1, 28, 28) in [-1, 1] to logits (B, 10).
    features: the same x to (B, 128), before the last layer.
    """

    def __init__(self) -> None:
        super().__init__()

        def stage(channels_in: int, channels_out: int) -> list[nn.Module]:
            conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
            return [conv, nn.BatchNorm2d(channels_out), nn.ReLU()]

        self.body = nn.Sequential(
            *stage(1, 32),  # (B, 32, 28, 28)
            nn.MaxPool2d(2),
            *stage(32, 64),  # (B, 64, 14, 14)
            *stage(64, 64),
            nn.MaxPool2d(2),
            *stage(64, 128),  # (B, 128, 7, 7)
            nn.MaxPool2d(2),  # (B, 128, 3, 3)
            nn.Flatten(),
            nn.Linear(128 * 9, 128),  # (B, 128)
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(128, 10)

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.body(x)))


class SecondClassifier(nn.Module):
    """Another network for the same task, with other habits, to have a second opinion.

    Patches in place of pooling on the way down, residual blocks, group norm, and at the end the
    mean over all places, which does not tell where in the image something was.
    forward: x (B, 1, 28, 28) in [-1, 1] to logits (B, 10).
    features: the same x to (B, 64), before the last layer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 4, stride=2, padding=1),  # (B, 32, 14, 14)
            _Residual(32),
            nn.Conv2d(32, 64, 2, stride=2),  # (B, 64, 7, 7)
            _Residual(64),
            _Residual(64),
            nn.GroupNorm(8, 64),
        )
        self.head = nn.Linear(64, 10)

    def features(self, x: Tensor) -> Tensor:
        return F.silu(self.body(x)).mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class _Residual(nn.Module):
    """Two 3x3 convolutions behind norm and SiLU, and a skip around both; (B, C, H, W) to itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm_1 = nn.GroupNorm(8, channels)
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm_2 = nn.GroupNorm(8, channels)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_1(F.silu(self.norm_1(x)))
        h = self.conv_2(F.silu(self.norm_2(h)))
        return x + h
