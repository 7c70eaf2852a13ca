"""Answers to the exercises of notebook 04, wrong and right."""

PAIRS = """
angle = t[:, None] * longest ** -(2 * torch.arange(width // 2) / width)
return {columns}
"""
HEAD = "scores = q @ k.T / q.shape[1] ** 0.5; return "
FOLD = 'rearrange(x, "b 1 {rows} {columns} -> {to}", p=2, q=2)'
SIX = "B, _, H, W = x.shape; return "
OWN = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = nn.SiLU()
        self.embed = nn.Sequential(nn.Linear(16, 32), self.act, nn.Linear(32, {wide}))
        self.stem = nn.Conv2d(1, {wide}, 3, padding=1)
        self.down = {down}
        self.middle = nn.Conv2d({wide}, {wide}, 3, padding=1)
        self.up = {up}
        self.last = nn.Conv2d({joined}, {out}, 3, padding=1)

    def forward(self, x, t):
        time = self.embed(blocks.time_embedding({t}, 16))[:, :, None, None]
        skip = self.act(self.stem(x) + time)
        h = self.act(self.middle(self.act(self.down(skip))))
        h = self.up(h)
        return self.last({join})
return Net()
"""


def clocks(frequency: str, columns: str = "torch.stack([angle.sin(), angle.cos()], 2).flatten(1)"):
    """The embedding of 04.3 with other frequencies; i counts the clocks."""
    line = "t[:, None] * longest ** -(2 * torch.arange(width // 2) / width)"
    text = PAIRS.format(columns=columns).replace(line, f"t[:, None] * ({frequency})")
    return "i = torch.arange(width // 2)" + text


def pairs(columns: str) -> str:
    """The embedding of 04.3 with its columns in another order."""
    return PAIRS.format(columns=columns)


def fold(rows: str = "(y p)", columns: str = "(x q)", to: str = "b (p q) y x") -> str:
    """The line of 04.5 with other groups of letters."""
    return FOLD.format(rows=rows, columns=columns, to=to)


def own(**instead: str) -> str:
    """A small U-Net for 04.8, with one thing done differently."""
    parts = {
        "wide": "16",
        "down": "nn.Conv2d(16, 16, 3, stride=2, padding=1)",
        "up": "nn.ConvTranspose2d(16, 16, 2, stride=2)",
        "joined": "32",
        "out": "1",
        "t": "t",
        "join": "torch.cat([h, skip], dim=1)",
    }
    return OWN.format(**parts | instead)


WRONG = {
    "04.1": [
        ("channels_in * channels_out * k * k", "The biases are missing"),
        ("channels_in * (channels_out * k * k + 1)", "for each channel that comes out"),
        ("channels_in * channels_out * k * k + 1", "One bias in all?"),
        ("channels_out * (channels_in * k + 1)", "a square of k x k"),
        ("channels_out * (k * k + 1)", "looks at all channels"),
        ("channels_in * k * k + 1", "a single filter"),
        ("channels_in * k * k + channels_out", "a single filter"),
        ("channels_in * channels_out * (k * k + 1)", "not for each pair"),
        ("channels_out * (channels_in * 3 * 3 + 1)", "k is not always 3"),
        ("(channels_in + channels_out) * k * k + channels_out", "Added"),
        ("channels_out * channels_in * 28 * 28 + channels_out", "off by"),
        ("channels_out, channels_in, k, k", "should be a single number"),
    ],
    "04.2": [
        ("(size + 2 * padding - k) // stride", "One too few"),
        ("(size + padding - k) // stride + 1", "on both sides"),
        ("(size - k) // stride + 1", "The padding is not counted"),
        ("(size - 2 * padding - k) // stride + 1", "makes it larger"),
        ("size + 2 * padding - k + 1", "The stride is missing"),
        ("size // stride", "The stride alone"),
        ("math.ceil(size / stride)", "The stride alone"),
        ("(size + 2 * padding - k + 1) // stride", "One too few"),
        ("math.ceil((size + 2 * padding - k) / stride) + 1", "One too many"),
        ("(size + 2 * padding - k) / stride + 1", "a whole number"),
        ("size + 2 * padding - k // stride + 1", "Brackets"),
        ("(size + 2 * padding - k) // stride + 2", "One too many"),
        ("size", ""),
        ("size, size", "should be a single number"),
    ],
    "04.3": [
        (pairs("torch.cat([angle.sin(), angle.cos()], dim=1)"), "All sines come first"),
        (pairs("torch.stack([angle.sin(), angle.cos()], dim=1).flatten(1)"), "All sines"),
        (pairs("torch.stack([angle.cos(), angle.sin()], 2).flatten(1)"), "the sine comes first"),
        (pairs("torch.stack([angle.sin(), angle.cos()]).flatten(1)"), "should have shape"),
        (pairs("torch.stack([angle.sin(), angle.cos()], dim=2)"), "should have shape"),
        (pairs("torch.stack([angle.sin(), angle.sin()], 2).flatten(1)"), "a sine and a cosine"),
        (clocks("longest ** (-i / (width // 2 - 1))"), "stops a little before"),
        (clocks("longest ** (-i / width)"), "half of what it should be"),
        (clocks("longest ** (2 * i / width)"), "fall from one clock to the next"),
        (clocks("10_000.0 ** (-2 * i / width)"), "`longest` is given"),
        (clocks("longest ** (-2 * (i + 1) / width)"), "i begins at 0"),
        (clocks("2 * math.pi * longest ** (-2 * i / width)"), "No 2 pi"),
        (
            """
            angle = t[:, None] * longest ** -(torch.arange(width) / width)
            even = torch.arange(width) % 2 == 0
            return torch.where(even, angle.sin(), angle.cos())
            """,
            "have the same frequency",
        ),
        (
            "angle = t * longest ** -(2 * torch.arange(width // 2) / width)\n"
            "return torch.stack([angle.sin(), angle.cos()], dim=1).flatten(1)",
            "It stops with",
        ),
        (
            "x = blocks.time_embedding(t, width, longest); return x",
            "order and exponents are others",
        ),
    ],
    "04.4": [
        (HEAD + "scores.softmax(0) @ v", "still runs over the queries"),
        ("(q @ k.T).softmax(1) @ v", "not divided by sqrt(channels) yet"),
        ("(q @ k.T / q.shape[1]).softmax(1) @ v", "not by their root"),
        ("(q @ k.T / q.shape[0] ** 0.5).softmax(1) @ v", "count the channels"),
        ("(q @ k.T * q.shape[1] ** 0.5).softmax(1) @ v", "multiplied"),
        ("(k @ q.T / q.shape[1] ** 0.5).softmax(1) @ v", "the keys ask"),
        (HEAD + "scores.softmax(0).T @ v", "the keys ask"),
        (HEAD + "scores @ v", "no weights yet"),
        (HEAD + "scores.flatten().softmax(0).view_as(scores) @ v", "off by"),
        (HEAD + "scores.softmax(1) @ v / len(v)", "off by"),
        (HEAD + "scores.softmax(1).T @ v", "The weights are turned round"),
        ("(q @ k.T).softmax(1) / q.shape[1] ** 0.5 @ v", "Divided too late"),
        (HEAD + "scores.softmax(1)", "should have shape"),
        ("weights = (q @ k.T).softmax(0); return weights @ v", "Both slips are still there"),
        ("v.mean(0).expand_as(v)", "as if all keys were equal"),
        ("(q.T @ k / q.shape[1] ** 0.5).softmax(1) @ v", "It stops with"),
        (
            "return F.scaled_dot_product_attention(q, k, v)",
            "It calls `scaled_dot_product_attention`",
        ),
    ],
    "04.5": [
        (SIX + "x.reshape(B, 4, H // 2, W // 2)", "A plain reshape mixes rows"),
        (fold("(p y)", "(q x)"), "quarters of the picture"),
        (fold(to="b (q p) y x"), "Rows and columns of each patch are swapped"),
        (fold(to="b (p q) x y"), "should have shape"),
        (fold(to="b y x (p q)"), "should have shape"),
        (fold("(p y)"), "Only the columns"),
        (fold(columns="(q x)"), "Only the rows"),
        ("F.avg_pool2d(x, 2).repeat(1, 4, 1, 1)", "the mean of each patch"),
        ("x[:, :, ::2, ::2].repeat(1, 4, 1, 1)", "four times the same pixel"),
        ("torch.cat([y for half in x.chunk(2, 2) for y in half.chunk(2, 3)], 1)", "quarters"),
        (
            SIX + "x.view(B, H // 2, 2, W // 2, 2).permute(0, 4, 2, 1, 3).flatten(1, 2)",
            "Rows and columns of each patch are swapped",
        ),
        (
            SIX + "x.view(B, H // 2, 2, W // 2, 2).permute(0, 2, 4, 1, 3)",
            "should have shape",
        ),
        (SIX + "x.view(B, H // 2, W // 2, 4).permute(0, 3, 1, 2)", "along the row"),
        ("F.pixel_unshuffle(x, 2)", "It calls `pixel_unshuffle`"),
    ],
    "04.6": [
        ("size % (patch * 2**levels) == 0", "Size 28 with patch 2 and 2 levels: this fits"),
        ("size % patch == 0", "3 levels: this does not fit"),
        ("size % 2 ** (levels - 1) == 0", "does not fit"),
        ("size % (patch * levels) == 0", ""),
        ("size % patch == 0 and size % 2 ** (levels - 1) == 0", "3 levels: this does not fit"),
        ("size % patch * 2 ** (levels - 1) == 0", "3 levels: this does not fit"),
        ("size % (patch * 2 ** (levels - 1)) != 0", "2 levels: this fits"),
        ("size // patch % 2 ** (levels - 1) == 0", "this does not fit"),
        ("size % (patch * 2 * (levels - 1)) == 0", ""),
        ("size / (patch * 2 ** (levels - 1))", "True or False"),
        ("size % (patch * 2 ** (levels - 1))", "2 levels: this fits"),
        ("size >= patch * 2 ** (levels - 1)", "does not fit"),
        ("size % (patch + 2 ** (levels - 1)) == 0", "this fits"),
        ("'yes'", "True or False"),
    ],
    "04.7": [
        ("longest ** -(torch.arange(width // 2) / (width // 2 - 1))", "the library's line"),
        ("longest ** (torch.arange(width // 2) / (width // 2 - 1) - 1)", "neighbours would be"),
        ("longest ** (1 - torch.arange(width // 2) / (width // 2 - 1))", "from the last to"),
        ("torch.ones(width // 2)", "go round together"),
        ("longest ** (torch.arange(width // 2) / (width // 2))", "Print its last frequency"),
        ("torch.linspace(1, longest, width // 2)", "Its ends are right"),
        ("longest * torch.arange(width // 2) / (width // 2 - 1)", "off by"),
        ("longest ** (torch.arange(width) / (width - 1))", "should have shape"),
        ("1 / torch.linspace(1, longest, width // 2)", "off by"),
        ("10_000.0 ** (torch.arange(width // 2) / (width // 2 - 1))", "`longest` is given"),
        ("torch.arange(width // 2) / (width // 2 - 1)", "the exponents"),
    ],
    "04.8": [
        (own(out="2"), "returns shape (3, 2, 28, 28)"),
        (own(down="nn.Conv2d(16, 16, 3, padding=1)", up="nn.Identity()"), "work at one size"),
        (own(joined="16", join="h"), "All goes through the smallest level (14 x 14)"),
        (own(t="0 * t"), "does not listen to t"),
        (
            own(wide="160", joined="320").replace("(16, 16,", "(160, 160,"),
            "parameters; 1 to 100,000 are asked for",
        ),
        (own(t="t[:1]"), ""),
        (own(up="nn.Upsample(scale_factor=4)"), "It stops with RuntimeError"),
        (own().replace("x, t):", "x):").replace("_embedding(t,", "_embedding(x[:, 0, 0, 0],"), ""),
        (own().replace("return Net()", "return Net"), "should return a `torch.nn.Module`"),
        (own().replace("return Net()", "Net()\nreturn"), "Nothing came back"),
        (own(joined="16", join="h").replace("return self.last(h)", "self.last(h)"), ""),
        (
            "from tutorial_lib.nets.unet import UNet, UNetConfig\n"
            "return UNet(UNetConfig(widths=(8, 16)))",
            "It contains the library's `UNet`",
        ),
        ("nn.Conv2d(1, 1, 3, padding=1)", "It stops with TypeError"),
        (own(join="torch.cat([h, skip.mean(0, keepdim=True).expand_as(h)], dim=1)"), "the others"),
    ],
}

RIGHT = {
    "04.1": [
        "channels_in * channels_out * k**2 + channels_out",
        "sum([k * k * channels_in + 1] * channels_out)",
        "torch.ones(channels_out, channels_in, k, k).numel() + channels_out",
        "np.prod([channels_out, channels_in, k, k]) + channels_out",
        "float(channels_out + channels_out * channels_in * k**2)",
        "torch.tensor([channels_out * (1 + channels_in * k * k)])",
        "nn.Linear(channels_in * k * k, channels_out).weight.numel() + channels_out",
    ],
    "04.2": [
        "1 + (size - k + 2 * padding) // stride",
        "int((size + 2 * padding - k) / stride) + 1",
        "math.floor((size + 2 * padding - k) / stride + 1)",
        "len(range(-padding, size + padding - k + 1, stride))",
        "(size + 2 * padding - k + stride) // stride",
        "-(-(size + 2 * padding - k + 1) // stride)",
        "torch.zeros(size + 2 * padding)[: size + 2 * padding - k + 1 : stride].numel()",
        """
        places, left = 0, -padding
        while left + k <= size + padding:
            places, left = places + 1, left + stride
        return places
        """,
    ],
    "04.3": [
        pairs("torch.stack([angle.sin(), angle.cos()], dim=-1).reshape(len(t), -1)"),
        pairs('rearrange([angle.sin(), angle.cos()], "two b i -> b (i two)")'),
        clocks("torch.exp(-2 * i / width * math.log(longest))"),
        clocks("1 / longest ** (2 * i / width)"),
        """
        out = torch.zeros(len(t), width)
        i = torch.arange(width // 2)
        out[:, 0::2] = torch.sin(t[:, None] / longest ** (2 * i / width))
        out[:, 1::2] = torch.cos(t[:, None] / longest ** (2 * i / width))
        return out
        """,
        """
        angle = [[float(s) / longest ** (2 * i / width) for i in range(width // 2)] for s in t]
        return [[f(a) for a in row for f in (math.sin, math.cos)] for row in angle]
        """,
        """
        i = np.arange(width)
        angle = np.array(t)[:, None] / np.power(longest, 2 * (i // 2) / width)
        return np.where(i % 2 == 0, np.sin(angle), np.cos(angle))
        """,
        "j = torch.arange(width).double()\n"
        "return (t[:, None] * longest ** -(2 * (j // 2) / width) + j % 2 * math.pi / 2).sin()",
    ],
    "04.4": [
        HEAD + "scores.softmax(-1) @ v",
        HEAD + "(v.T @ scores.softmax(1).T).T",
        "((q / q.shape[1] ** 0.5) @ k.T).softmax(dim=1) @ v",
        "torch.einsum('nm,mc->nc', F.softmax(torch.einsum('nc,mc->nm', q, k)"
        " / math.sqrt(k.shape[-1]), 1), v)",
        """
        weights = torch.exp(q @ k.T / math.sqrt(q.shape[1]))
        return weights @ v / weights.sum(1, keepdim=True)
        """,
        """
        s = np.array(q) @ np.array(k).T / np.sqrt(q.shape[1])
        w = np.exp(s - s.max(1, keepdims=True))
        return w / w.sum(1, keepdims=True) @ np.array(v)
        """,
        "[sum(w * value for w, value in zip((k @ one / len(one) ** 0.5).softmax(0), v))"
        " for one in q]",
        "(k @ q.T / q.shape[1] ** 0.5).softmax(0).T @ v",
        "q, k, v = q.float(), k.float(), v.float(); " + HEAD + "scores.softmax(1) @ v",
        "q.mul_(q.shape[1] ** -0.5); return torch.softmax(q.matmul(k.t()), 1).matmul(v)",
    ],
    "04.5": [
        fold(),
        SIX + "x.view(B, H // 2, 2, W // 2, 2).permute(0, 2, 4, 1, 3).flatten(1, 2)",
        "torch.cat([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], dim=1)",
        SIX + "F.unfold(x, 2, stride=2).view(B, 4, H // 2, W // 2)",
        "F.conv2d(x, torch.eye(4, dtype=x.dtype).view(4, 1, 2, 2), stride=2)",
        "a = np.array(x)\n"
        "return np.concatenate([a[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)",
        SIX + "x.reshape(B, H // 2, 2, W // 2, 2).transpose(2, 3)"
        ".reshape(B, H // 2, W // 2, 4).movedim(-1, 1)",
        "x[:, 0].unfold(1, 2, 2).unfold(2, 2, 2).flatten(3).permute(0, 3, 1, 2)",
        """
        out = torch.empty(len(x), 4, x.shape[2] // 2, x.shape[3] // 2)
        for y in range(x.shape[2]):
            for z in range(x.shape[3]):
                out[:, 2 * (y % 2) + z % 2, y // 2, z // 2] = x[:, 0, y, z]
        return out
        """,
    ],
    "04.6": [
        "not size % (patch * 2 ** (levels - 1))",
        "size % (patch << (levels - 1)) == 0",
        "(size / patch / 2 ** (levels - 1)).is_integer()",
        "size % patch == 0 and size // patch % 2 ** (levels - 1) == 0",
        "size in range(0, size + 1, patch * 2 ** (levels - 1))",
        "np.mod(size, patch * 2 ** (levels - 1)) == 0",
        "torch.tensor(size).remainder(patch * 2 ** (levels - 1)) == 0",
        "int(math.gcd(size, patch * 2 ** (levels - 1)) == patch * 2 ** (levels - 1))",
        """
        for divisor in [patch] + [2] * (levels - 1):
            if size % divisor:
                return False
            size = size // divisor
        return True
        """,
    ],
    "04.7": [
        "longest ** torch.linspace(0, 1, width // 2)",
        "torch.logspace(0, math.log10(longest), width // 2)",
        "np.geomspace(1, longest, width // 2)",
        "torch.exp(math.log(longest) * torch.arange(width // 2) / (width // 2 - 1))",
        "[longest ** (i / (width / 2 - 1)) for i in range(width // 2)]",
        "1 / longest ** -(torch.arange(width // 2) / (width // 2 - 1))",
        "torch.full((width // 2,), longest).double() ** torch.linspace(0, 1, width // 2)",
        "step = longest ** (1 / (width // 2 - 1))\n"
        "return torch.cumprod(torch.tensor([1.0] + [step] * (width // 2 - 1)).double(), 0)",
    ],
    "04.8": [
        own(),
        own(down="nn.AvgPool2d(2)", up="nn.Upsample(scale_factor=2)"),
        own(down="nn.MaxPool2d(2)", up="nn.Upsample(scale_factor=2, mode='bilinear')"),
        own(joined="16", join="h + skip"),
        own(down="blocks.Down(16, 16)", up="blocks.Up(16, 16)"),
        own(down="nn.Conv2d(16, 16, 7, stride=7)", up="nn.ConvTranspose2d(16, 16, 7, stride=7)"),
        """
        class Level(nn.Module):
            def __init__(self, width, inside):
                super().__init__()
                self.down = nn.Conv2d(width, 2 * width, 3, 2, 1)
                self.inside = inside
                self.up = nn.ConvTranspose2d(2 * width, width, 2, 2)

            def forward(self, x):
                return x + self.up(self.inside(self.down(x).relu()))

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.time = nn.Embedding(1001, 8)
                self.stem, self.last = nn.Conv2d(1, 8, 3, 1, 1), nn.Conv2d(8, 1, 1)
                self.u = Level(8, Level(16, nn.Sequential(nn.Conv2d(32, 32, 3, 1, 1), nn.ReLU())))

            def forward(self, x, t):
                return self.last(self.u(self.stem(x) + self.time(t)[..., None, None]))

        return Net()
        """,
        """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.one, self.two = nn.Conv2d(2, 12, 3, padding=1), nn.Conv2d(12, 24, 3, padding=1)
                self.three = nn.Conv2d(36, 12, 3, padding=1)
                self.norm, self.four = nn.GroupNorm(3, 12), nn.Conv2d(12, 1, 3, padding=1)

            def forward(self, x, t):
                time = (t / 1000).view(-1, 1, 1, 1).expand_as(x)  # as a second channel
                a = F.relu(self.one(torch.cat([x, time], 1)))
                b = F.relu(self.two(F.avg_pool2d(a, 2)))
                b = F.interpolate(b, scale_factor=2)
                return self.four(F.relu(self.norm(self.three(torch.cat([a, b], 1)))))

        return Net()
        """,
    ],
}
