"""Answers to the exercises of notebook 04b, wrong and right."""

SUMMARY = "c = q.shape[1]; summary = k.softmax(0).T @ v; return "
BLOCK = """
def normal(rows):
    {normal}

{six} = modulation
h = {first}
return {second}
"""
FILTERS = """
spread = weight.var(dim=(1, 2, 3), keepdim=True, correction=0)
mean = weight.mean(dim=(1, 2, 3), keepdim=True)
return {filters}
"""


def block(**instead: str) -> str:
    """The block of 04b.2, with one thing done differently."""
    parts = {
        "normal": "return (rows - rows.mean(1, keepdim=True))"
        " / (rows.var(1, keepdim=True, correction=0) + 1e-5).sqrt()",
        "six": "shift, scale, gate, shift_2, scale_2, gate_2",
        "first": "x + gate * attend(normal(x) * (1 + scale) + shift)",
        "second": "h + gate_2 * mlp(normal(h) * (1 + scale_2) + shift_2)",
    }
    return BLOCK.format(**parts | instead)


def filters(expression: str) -> str:
    """What 04b.3 hands back, made of weight, spread (a variance) and mean."""
    return FILTERS.format(filters=expression)


WRONG = {
    "04b.1": [
        ("(q @ k.T / q.shape[1] ** 0.5).softmax(1) @ v", "That is full attention"),
        (SUMMARY + "q.softmax(1) @ summary", "not divided by the root yet"),
        (SUMMARY + "q.softmax(1) / c @ summary", "not by their root"),
        (SUMMARY + "q.softmax(0) / c**0.5 @ summary", "queries' softmax runs over the places"),
        (SUMMARY + "q / c**0.5 @ summary", "softmax of the queries is missing"),
        ("q.softmax(1) / q.shape[1] ** 0.5 @ (k.softmax(1).T @ v)", "runs over the channels"),
        ("q.softmax(1) / q.shape[1] ** 0.5 @ (k.T @ v)", "softmax of the keys is missing"),
        ("q.softmax(1) / q.shape[0] ** 0.5 @ (k.softmax(0).T @ v)", "count the channels"),
        (SUMMARY + "q.softmax(1) / c**0.5 @ summary.T", "The summary is turned round"),
        (SUMMARY + "(q / c**0.5).softmax(1) @ summary", "Divided before the softmax"),
        ("q / q.shape[1] ** 0.5 @ (k.T @ v)", "Neither softmax"),
        ("q.softmax(0) / q.shape[1] ** 0.5 @ (k.softmax(1).T @ v)", "Both softmaxes"),
        (SUMMARY + "q.softmax(1) * c**0.5 @ summary", "multiplied by the root"),
        (SUMMARY + "summary", "should have shape"),
        (SUMMARY + "q.softmax(1) / c**0.5 * v", "off by"),
        ("v / q.shape[1] ** 0.5", "off by"),
    ],
    "04b.2": [
        (
            block(
                first="x + gate * attend(normal(x) * scale + shift)",
                second="h + gate_2 * mlp(normal(h) * scale_2 + shift_2)",
            ),
            "A scale of zero",
        ),
        (
            block(
                first="x + attend(normal(x) * (1 + scale) + shift)",
                second="h + mlp(normal(h) * (1 + scale_2) + shift_2)",
            ),
            "The gates are missing",
        ),
        (block(normal="return rows"), "The rows are not normalised"),
        (
            block(second="h + gate_2 * mlp(normal(x) * (1 + scale_2) + shift_2)"),
            "as they were before the attention",
        ),
        (block(second="h"), "Only the attention's half"),
        (
            block(
                first="gate * attend(normal(x) * (1 + scale) + shift)",
                second="h + gate_2 * mlp(normal(x + h) * (1 + scale_2) + shift_2)",
            ),
            "x itself is not carried on",
        ),
        (block(first="gate * attend(normal(x) * (1 + scale) + shift)"), "into the second half"),
        (
            block(second="x + gate_2 * mlp(normal(h) * (1 + scale_2) + shift_2)"),
            "The second half begins",
        ),
        (
            block(
                normal="return (rows - rows.mean(1, keepdim=True))"
                " / rows.std(1, keepdim=True, correction=0)"
            ),
            "The 1e-5 is missing",
        ),
        (
            block(
                normal="return (rows - rows.mean(1, keepdim=True))"
                " / (rows.std(1, keepdim=True, correction=0) + 1e-5)"
            ),
            "joins the variance",
        ),
        (
            block(
                normal="return (rows - rows.mean(1, keepdim=True))"
                " / (rows.var(1, keepdim=True) + 1e-5).sqrt()"
            ),
            "divided by d - 1",
        ),
        (
            block(
                normal="return (rows - rows.mean(0, keepdim=True))"
                " / (rows.var(0, keepdim=True, correction=0) + 1e-5).sqrt()"
            ),
            "Each row by itself",
        ),
        (block(normal="return F.layer_norm(rows, rows.shape)"), "Each row by itself"),
        (block(six="scale, shift, gate, scale_2, shift_2, gate_2"), "the shift comes first"),
        (block(six="gate, shift, scale, gate_2, shift_2, scale_2"), "The order of the six"),
        (
            block(
                first="x + gate * attend((normal(x) + shift) * (1 + scale))",
                second="h + gate_2 * mlp((normal(h) + shift_2) * (1 + scale_2))",
            ),
            "The shift comes after the scale",
        ),
        (
            block(
                first="x + (1 + gate) * attend(normal(x) * (1 + scale) + shift)",
                second="h + (1 + gate_2) * mlp(normal(h) * (1 + scale_2) + shift_2)",
            ),
            "A gate of zero",
        ),
        (
            block(
                first="x + gate * mlp(normal(x) * (1 + scale) + shift)",
                second="h + gate_2 * attend(normal(h) * (1 + scale_2) + shift_2)",
            ),
            "The attention comes first",
        ),
        ("modulation[2] * x", "off by"),
        ("shift, scale, gate = modulation; return x + gate * attend(x)", "It stops with"),
    ],
    "04b.3": [
        (filters("(weight - mean) / (spread + 1e-5).sqrt()"), "no slip in it"),
        (filters("weight - mean"), "answer to grey less"),
        ("weight", "Nothing is divided"),
        (filters("weight / spread.sqrt()"), "The 1e-5 is missing"),
        (filters("(weight + mean) / (spread + 1e-5).sqrt()"), "The mean went the wrong way"),
        (filters("weight / (spread + 1e-5)"), "A root is missing"),
        (filters("weight * (spread + 1e-5).sqrt()"), "The suspect divides"),
        (filters("weight / (spread.sqrt() + 1e-5)"), "joins the variance"),
        ("weight / (weight.var((1, 2, 3), keepdim=True) + 1e-5).sqrt()", "n - 1"),
        ("weight / (weight.var(correction=0) + 1e-5).sqrt()", "a spread of its own"),
        (
            "weight / (weight.var((2, 3), keepdim=True, correction=0) + 1e-5).sqrt()",
            "over all channels that come in",
        ),
        (
            "weight / (weight.var(0, keepdim=True, correction=0) + 1e-5).sqrt()",
            "a spread of its own",
        ),
        ("weight / weight.flatten(1).norm(dim=1)[:, None, None, None]", "the length of a filter"),
        ("weight / (weight.var((1, 2, 3), correction=0) + 1e-5).sqrt()", "It stops with"),
        (filters("spread"), "should have shape"),
    ],
}

RIGHT = {
    "04b.1": [
        SUMMARY + "(q.softmax(1) @ summary) / math.sqrt(c)",
        "F.softmax(q, -1) @ (F.softmax(k, 0).t() @ v) * q.shape[-1] ** -0.5",
        "torch.einsum('nd,md,mc->nc', q.softmax(1) / q.shape[1] ** 0.5, k.softmax(0), v)",
        """
        a = np.exp(q.numpy()) / np.exp(q.numpy()).sum(1, keepdims=True)
        b = np.exp(k.numpy()) / np.exp(k.numpy()).sum(0)
        return a / np.sqrt(q.shape[1]) @ (b.T @ v.numpy())
        """,
        """
        weights = k.exp() / k.exp().sum(0, keepdim=True)
        summary = sum(torch.outer(w, value) for w, value in zip(weights, v))  # place by place
        return torch.stack([row.softmax(0) @ summary for row in q]) / len(q[0]) ** 0.5
        """,
        "((v.T @ k.softmax(0)) @ q.softmax(1).T / q.shape[1] ** 0.5).T",
        "q, k, v = q.float(), k.float(), v.float()\n" + SUMMARY + "q.softmax(1) / c**0.5 @ summary",
    ],
    "04b.2": [
        block(),
        block(normal="return F.layer_norm(rows, rows.shape[1:])"),
        block(normal="return nn.LayerNorm(rows.shape[1], elementwise_affine=False)(rows)"),
        """
        for (shift, scale, gate), f in zip(modulation.view(2, 3, -1), (attend, mlp)):
            mean = x.mean(-1, keepdim=True)
            variance = ((x - mean) ** 2).mean(-1, keepdim=True)
            rows = (x - mean) * torch.rsqrt(variance + 1e-5)
            x = x + gate * f(rows + rows * scale + shift)
        return x
        """,
        """
        a, b = modulation[:3], modulation[3:]
        def half(x, m, f):
            rows = torch.stack([(r - r.mean()) / (r.var(correction=0) + 1e-5) ** 0.5 for r in x])
            return x.add_(m[2] * f(torch.addcmul(m[0], rows, 1 + m[1])))
        return half(half(x, a, attend), b, mlp)
        """,
        """
        m = modulation[:, None]
        norm = lambda x: F.group_norm(x, 1)
        h = torch.addcmul(x, attend(norm(x) * (m[1] + 1) + m[0]), m[2])
        return torch.addcmul(h, mlp(norm(h) * (m[4] + 1) + m[3]), m[5]).tolist()
        """,
    ],
    "04b.3": [
        filters("weight / (spread + 1e-5) ** 0.5"),
        filters("weight.float() * torch.rsqrt(spread.float() + 1e-5)"),
        """
        flat = weight.flatten(1)
        spread = (flat**2).mean(1) - flat.mean(1) ** 2
        return (flat / (spread + 1e-5).sqrt()[:, None]).view_as(weight)
        """,
        "torch.stack([f / torch.sqrt(f.var(unbiased=False) + 1e-5) for f in weight])",
        "w = np.array(weight); return w / np.sqrt(w.var((1, 2, 3), keepdims=True) + 1e-5)",
        "for f in weight: f /= (((f - f.mean()) ** 2).mean() + 1e-5) ** 0.5\nreturn weight",
        "F.layer_norm(weight, weight.shape[1:])"
        " + (m := weight.mean((1, 2, 3), keepdim=True))"
        " / (weight.var((1, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()",
    ],
}
