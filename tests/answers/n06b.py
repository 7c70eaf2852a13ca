"""Answers to the exercises of notebook 06b, wrong and right."""

NEAREST = "apart = (known.double() - picture.double()).flatten(1); return "
COPIER = """
apart = ({apart}).flatten(2)
logs = {logs}
weights = {weights}
return {result}
"""
ANSWERS = '{"A": 3, "B": 9, "C": 2, "D": 8, "E": 4, "F": 10, "G": 1, "H": 6, "I": 5, "J": 7}'


def copier(
    apart: str = "x_t[:, None] - alpha_bar_t**0.5 * known",
    logs: str = "-(apart**2).sum(2) / (2 * (1 - alpha_bar_t))",
    weights: str = "(logs + counts.log()).softmax(1)",
    result: str = "torch.einsum('bn,nchw->bchw', weights, known)",
) -> str:
    """The denoiser of 06b.3, with one thing done differently."""
    return COPIER.format(apart=apart, logs=logs, weights=weights, result=result)


WRONG = {
    "06b.1": [
        ("(a.mean() - b.mean()) ** 2", "Only the means"),
        ("(a.std() - b.std()) ** 2", "Only the standard deviations"),
        ("(a.var() - b.var()) ** 2", "Only the variances"),
        ("((a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2) ** 0.5", "Its root"),
        ("(a.mean() - b.mean()) ** 2 + (a.var() - b.var()) ** 2", "Variances are compared"),
        ("abs(a.mean() - b.mean()) + abs(a.std() - b.std())", "Differences are squared"),
        ("abs(a.mean() - b.mean()) + (a.std() - b.std()) ** 2", "of the means is squared, too"),
        ("(a.mean() - b.mean()) ** 2 + abs(a.std() - b.std())", "deviations is squared, too"),
        ("(a.mean() - b.mean()) ** 2 + (a.std() + b.std()) ** 2", "not their sum"),
        ("(a.mean() - b.mean()) ** 2 + a.var() + b.var()", "third term of the formula"),
        ("(a.mean() - b.mean()) ** 2 + a.var() + b.var() - (a.var() * b.var()) ** 0.5", "The 2"),
        ("(a.mean() - b.mean()) ** 2 + a.var() + b.var() - 2 * a.var() * b.var()", "A root in"),
        ("(a.mean() - b.mean()) ** 2 - (a.std() - b.std()) ** 2", "both count"),
        ("((a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2) / 2", "Their mean"),
        (
            "(a.mean() - b.mean()) ** 2 + (a.std(correction=0) - b.std(correction=0)) ** 2",
            "by N - 1",
        ),
        ("(np.mean(a.numpy()) - b.mean()) ** 2 + (a.numpy().std() - b.numpy().std()) ** 2", "N -"),
        ("((a - b) ** 2).mean()", "It stops with"),
        ("(a.mean() - b.mean()) ** 2, (a.std() - b.std()) ** 2", "a single number"),
        ("(a.median() - b.median()) ** 2 + (a.std() - b.std()) ** 2", "off by"),
    ],
    "06b.2": [
        ("int(((known - picture) ** 2).flatten(1).sum(1).argmin())", "it names another one"),
        ("int((known - picture).abs().flatten(1).sum(1).argmin())", "it names another one"),
        (NEAREST + "int((apart**2).sum(1).argmax())", "For a known image, it names another one"),
        (NEAREST + "int(apart.sum(1).argmin())", "it names another one"),
        (NEAREST + "(apart**2).sum(1).min()", ""),
        (NEAREST + "(apart**2).sum(1)", "one whole number"),
        (NEAREST + "known[(apart**2).sum(1).argmin()]", "one whole number"),
        (NEAREST + "(apart**2).argmin()", "it names another one"),
        (NEAREST + "(apart**2).sum(0).argmin()", "it names another one"),
        ("int((known.int() - picture.int()).sum((1, 2, 3)).abs().argmin())", "it names another"),
        (
            "int(((known - picture).double() ** 2).flatten(1).sum(1).argmin())",
            "it names another one",
        ),
        (
            "int((known.to(torch.int8) - picture.to(torch.int8)).double().square().flatten(1)"
            ".sum(1).argmin())",
            "it names another one",
        ),
        ("int((known == picture).flatten(1).sum(1).argmax())", "names another one"),
        ("str(int(((known.double() - picture) ** 2).flatten(1).sum(1).argmin()))", "be numbers"),
        (
            "int(((known.short() - picture.short()) ** 2).flatten(1).sum(1).argmin())",
            "it names another one",
        ),
        ("x = int(((known.double() - picture) ** 2).flatten(1).sum(1).argmin()); x", "Nothing"),
    ],
    "06b.3": [
        (copier(result="known[logs.argmax(1)]"), "the nearest picture alone"),
        (
            copier(weights="counts.log().softmax(0).expand(len(x_t), -1).double()"),
            "Only the counts",
        ),
        (copier(weights="logs.softmax(1)"), "Each picture counts once here"),
        (copier("x_t[:, None] - known"), "not around the picture"),
        (copier("x_t[:, None] - alpha_bar_t * known"), "off by"),
        (copier(logs="-(apart**2).sum(2) / (1 - alpha_bar_t)"), "A 2 is missing"),
        (copier(logs="-(apart**2).sum(2) / (2 * (1 - alpha_bar_t) ** 2)"), "the variance already"),
        (copier(logs="-(apart**2).sum(2) / (2 * (1 - alpha_bar_t) ** 0.5)"), "Standard deviation"),
        (copier(logs="-apart.norm(dim=2) / (2 * (1 - alpha_bar_t))"), "Distances are squared"),
        (copier(logs="(apart**2).sum(2) / (2 * (1 - alpha_bar_t))"), "The nearest should count"),
        (copier(logs="-(apart**2).mean(2) / (2 * (1 - alpha_bar_t))"), "their mean is less"),
        (copier(logs="-(apart**2).sum(2) / 2"), "around its picture is 1 - alpha_bar_t"),
        (copier(logs="-(apart**2).sum(2) / (2 * alpha_bar_t)"), "not alpha_bar_t"),
        (copier(weights="(logs * counts).softmax(1)"), "not of its logarithm"),
        (copier(weights="(logs + counts).softmax(1)"), "not a term in its logarithm"),
        (copier(weights="(logs - counts.log()).softmax(1)"), "count more, not less"),
        (copier(weights="logs.softmax(1) * counts"), "counts included"),
        (copier(weights="(logs + counts.log()).softmax(0)"), "not over the batch"),
        (copier("x_t[:, None] / alpha_bar_t**0.5 - known"), "divided by its root"),
        (copier(result="weights"), "should have shape"),
        (copier(weights="logs.exp() * counts"), "off by"),
        (copier(result="known[(logs + counts.log()).argmax(1)]"), ""),
        ("x_t / alpha_bar_t**0.5", "off by"),
    ],
    "06b.4": [
        ('{"A": 1, "B": 2}', "These letters are missing: C, D, E, F, G, H, I, J"),
        ("dict(zip('ABCDEFGHIJ', range(1, 11)))", "0 of 10 are right"),
        (f"answer = {ANSWERS}; answer['A'] = 9; answer['B'] = 3; return answer", "8 of 10"),
        (f"{{number: letter for letter, number in {ANSWERS}.items()}}", "are missing: A, B"),
        (f"{{letter.lower(): number for letter, number in {ANSWERS}.items()}}", "are missing: A"),
        (f"{{letter: str(number) for letter, number in {ANSWERS}.items()}}", "0 of 10"),
        (f"list({ANSWERS}.values())", "should return a dictionary"),
        (f"answer = {ANSWERS}; answer.pop('J'); return answer", "are missing: J"),
        (f"answer = {ANSWERS}; answer", "Nothing came back"),
        (f"{{letter: number - 1 for letter, number in {ANSWERS}.items()}}", "0 of 10"),
        ("dict.fromkeys('ABCDEFGHIJ', 4)", "1 of 10"),
    ],
}

RIGHT = {
    "06b.1": [
        "(a.mean() - b.mean()).square() + (a.std() - b.std()).square()",
        "(a.mean() - b.mean()) ** 2 + a.var() + b.var() - 2 * (a.var() * b.var()).sqrt()",
        "(b.mean() - a.mean()) ** 2 + (b.std() - a.std()) ** 2",
        "(np.mean(a.numpy()) - np.mean(b.numpy())) ** 2"
        " + (np.std(a.numpy(), ddof=1) - np.std(b.numpy(), ddof=1)) ** 2",
        "float(sum((f(a) - f(b)) ** 2 for f in (torch.mean, torch.std)))",
        "torch.dist(torch.stack([a.mean(), a.std()]), torch.stack([b.mean(), b.std()])) ** 2",
        """
        from statistics import mean, stdev
        a, b = a.tolist(), b.tolist()
        return math.pow(mean(a) - mean(b), 2) + math.pow(stdev(a) - stdev(b), 2)
        """,
        """
        m = a.sum() / len(a), b.sum() / len(b)
        s = [((x - x.mean()) ** 2).sum().div(len(x) - 1).sqrt() for x in (a, b)]
        return [(m[0] - m[1]) ** 2 + (s[0] - s[1]) ** 2]
        """,
        "a, b = a.float(), b.float(); return (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2",
    ],
    "06b.2": [
        "int(((known.float() - picture.float()) ** 2).flatten(1).sum(1).argmin())",
        "(known.int() - picture.int()).square().sum((1, 2, 3)).argmin()",
        "torch.cdist(picture.double().view(1, -1), known.double().flatten(1)).argmin()",
        NEAREST + "apart.abs().mean(1).argmin().item()",
        NEAREST + "(apart**2).mean(1, keepdim=True).argmin(0)",
        NEAREST + "int((apart**2).sum(1).min(0).indices)",
        NEAREST + "(apart**2).sum(1).topk(1, largest=False).indices",
        NEAREST + "torch.argsort(apart.norm(dim=1))[0]",
        "np.argmin(((known.numpy() - np.int64(picture.numpy())) ** 2).sum((1, 2, 3)))",
        "min(range(len(known)), key=lambda i: F.mse_loss(known[i].float(), picture.float()))",
        """
        best, where = math.inf, None
        for i, one in enumerate(known.tolist()):
            apart = sum(
                (p - q) ** 2
                for a, b in zip(one[0], picture[0].tolist())
                for p, q in zip(a, b)
            )
            if apart < best:
                best, where = apart, i
        return where
        """,
    ],
    "06b.3": [
        copier(),
        copier(weights="(w := counts * logs.exp()) / w.sum(1, keepdim=True)"),
        copier(result="(weights @ known.flatten(1)).view_as(x_t)"),
        copier(result="(weights[:, :, None, None, None] * known).sum(1)"),
        copier(weights="torch.softmax(logs + (counts / counts.sum()).log(), dim=-1)"),
        # each picture as often as it occurs
        """
        every = known.repeat_interleave(counts, dim=0)
        apart = x_t[:, None] - alpha_bar_t**0.5 * every
        weights = (-apart.square().sum((2, 3, 4)) / (2 - 2 * alpha_bar_t)).softmax(1)
        return torch.tensordot(weights, every, 1)
        """,
        """
        out = torch.zeros_like(x_t)
        for b, x in enumerate(x_t):
            logs = torch.stack([
                math.log(n) - ((x - alpha_bar_t**0.5 * k) ** 2).sum() / 2 / (1 - alpha_bar_t)
                for n, k in zip(counts.tolist(), known)
            ])
            for w, k in zip(logs.softmax(0), known):
                out[b] += w * k
        return out
        """,
        """
        x, k = x_t.flatten(1), known.flatten(1) * alpha_bar_t**0.5
        logs = (x @ k.T - (k**2).sum(1) / 2) / (1 - alpha_bar_t)
        return ((logs + counts.log()).softmax(1) @ known.flatten(1)).view(x_t.shape)
        """,
        copier(
            logs="gaussian.log_density(x_t[:, None], alpha_bar_t**0.5 * known,"
            " torch.tensor(1 - alpha_bar_t)).flatten(2).sum(2)"
        ),
        copier().replace("\napart", "x_t, known = x_t.float(), known.float()\napart", 1),
    ],
    "06b.4": [
        ANSWERS,
        "dict(A=3, B=9, C=2, D=8, E=4, F=10, G=1, H=6, I=5, J=7)",
        "dict(zip('ABCDEFGHIJ', [3, 9, 2, 8, 4, 10, 1, 6, 5, 7]))",
        "{l: torch.tensor(n) for l, n in zip('ABCDEFGHIJ', (3, 9, 2, 8, 4, 10, 1, 6, 5, 7))}",
        f"answer = {ANSWERS}; answer['K'] = 0; return answer",
        "{letter: float(n) for n, letter in enumerate('GCAEIHJDBF', 1)}",
    ],
}
