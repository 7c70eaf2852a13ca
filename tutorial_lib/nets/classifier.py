"""The small classifier in whose features samples are judged (notebook 06)."""

from torch import Tensor, nn


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
