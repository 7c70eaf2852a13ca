"""Answers to the exercises of notebook 01, wrong and right."""

SOLVE = """
A = P.T - torch.eye(len(P), dtype=P.dtype)
A[-1] = 1
right = torch.zeros(len(P), dtype=P.dtype)
right[-1] = 1
"""
METROPOLIS = """
S = len(pi)
P = torch.zeros(S, S, dtype=pi.dtype)
for i in range(S):
    for j in range(S):
        if i != j:
            P[i, j] = {entry}
{diagonal}
return P
"""
STAY = "for i in range(S): P[i, i] = 1 - P[i].sum()"
LATE = "late, later = P.matrix_power(1000), P.matrix_power(1001)"


def metropolis(entry: str, diagonal: str = STAY) -> str:
    """The chain of 01.6, with this entry off the diagonal."""
    return METROPOLIS.format(entry=entry, diagonal=diagonal)


WRONG = {
    "01.1": [
        ("P[i, j]", "That is the probability of a single step"),
        ("P[i, j] ** 2", "a single step, squared"),
        ("sum(P[j, k] * P[k, i] for k in range(len(P)))", "right way round"),
        ("sum(P[i, k] * P[j, k] for k in range(len(P)))", ""),
        ("sum(P[k, i] * P[k, j] for k in range(len(P)))", ""),
        ("sum(P[i, k] + P[k, j] for k in range(len(P)))", "multiply"),
        ("sum(P[i, k] * P[k, j] for k in range(3))", "the last one, too"),
        ("sum(P[i, k] * P[k, j] for k in range(1, len(P)))", "the first one, too"),
        ("sum(P[i, k] * P[k, j] for k in range(len(P)) if k not in (i, j))", "i or j itself"),
        ("(P[i] * P[:, j]).mean()", "that is a mean"),
        ("P[i, j] + (P[i] * P[:, j]).sum()", "exactly two are asked for"),
        ("P[i] * P[:, j]", "should be a single number, got 4 of them"),
        ("(P @ P)[i, j]", "It multiplies matrices"),
        ("P.matrix_power(2)[i, j]", "matrix_power"),
    ],
    "01.2": [
        ("P @ before", "Work out one entry by hand"),
        ("before @ P.T", "Work out one entry by hand"),
        ("before", "before the step"),
        ("before @ P @ P", "two steps on"),
        ("before @ P.inverse()", "a step back"),
        ("(before[:, None] * P).mean(0)", "their mean"),
        ("P[before.argmax()]", "the likeliest state alone"),
        ("before * P", "should have shape (4,), got (4, 4)"),
        ("(before[:, None] * P).sum(1)", "before the step"),
    ],
    "01.3": [
        ("a / (a + b), b / (a + b)", "Which state is left more often?"),
        ("b, a", "Do the two sum to 1?"),
        ("a, b", "Do they sum to 1?"),
        ("(1 - a) / (2 - a - b), (1 - b) / (2 - a - b)", "the probability to stay"),
        ("1 - a, a", "the first row of P"),
        ("b, 1 - b", "the second row of P"),
        ("0.5, 0.5", "only if a = b"),
        ("b / (a + b)", "should have shape (2,), got ()"),
    ],
    "01.4": [
        (SOLVE + "return torch.linalg.solve(A.T, right)", "has become a column"),
        (SOLVE.replace("P.T", "P") + "return torch.linalg.solve(A, right)", "an eigenvector of P,"),
        (SOLVE + "right[:] = 1; return torch.linalg.solve(A, right)", "On the right side"),
        (SOLVE + "right[-1] = 2; return torch.linalg.solve(A, right)", "does not sum to 1"),
        ("torch.zeros(len(P))", "All zeros solve"),
        ("torch.ones(len(P))", "and it does not sum to 1"),
        ("torch.linalg.inv(P.T - torch.eye(len(P)))[0]", ""),
        (SOLVE + "x = torch.linalg.solve(A, right); return x / x.norm()", "does not sum to 1"),
        (SOLVE + "return torch.linalg.solve(A, right)[0]", "should have shape"),
        ("P.matrix_power(1000)[0]", ""),
    ],
    "01.5": [
        ("start * P.matrix_power(n)[:, j]", "It does not sum to 1"),
        ("(x := P.matrix_power(n)[:, j]) / x.sum()", "the same for every start"),
        ("P.matrix_power(n)[j]", "the way forward"),
        ("start", "before anything was seen"),
        ("start @ P.matrix_power(n)", "at hour n, not at hour 0"),
        ("(x := start * P.matrix_power(n)[j]) / x.sum()", "The way *to* state j"),
        ("(x := start * P.matrix_power(n - 1)[:, j]) / x.sum()", ""),
        ("(x := start * P.matrix_power(n + 1)[:, j]) / x.sum()", "n + 1 hours"),
        ("(x := start * (P**n)[:, j]) / x.sum()", ""),
        ("(x := P.matrix_power(n)[:, j] / start) / x.sum()", "divided out"),
        ("(x := start * P[:, j]) / x.sum()", ""),
        ("(start * P.matrix_power(n)[:, j]).mean()", "should have shape"),
        ("markov.reverse(P.matrix_power(n), start)[j]", "It calls `reverse`"),
    ],
    "01.6": [
        (metropolis("min(1, pi[j] / pi[i]) / (S - 1)", ""), "what happens to refused proposals?"),
        (metropolis("min(1, pi[j] / pi[i])"), "There is a negative probability"),
        (metropolis("min(1, pi[i] / pi[j]) / (S - 1)"), "pi is not stationary"),
        (metropolis("min(1, pi[j] / pi[i]) / S"), "How many other states"),
        (metropolis("pi[j]", "for i in range(S): P[i, i] = pi[i]"), "Each row is pi"),
        (metropolis("pi[j] / (pi[i] + pi[j]) / (S - 1)"), "A fine chain for pi"),
        (metropolis("max(1, pi[j] / pi[i]) / (S - 1)"), "There is a negative probability"),
        (metropolis("pi[j] / pi[i] / (S - 1)"), ""),
        (metropolis("min(1, pi[j]) / (S - 1)"), "A fine chain for pi"),
        (metropolis("min(1, pi[j] / pi[i]) / (S - 1)", "P = P / P.sum(1, keepdim=True)"), "pi is"),
        (metropolis("min(1, pi[j] / pi[i]) / (S - 1)", STAY + "\nP = P.T"), ""),
        ("torch.eye(len(pi), dtype=pi.dtype)", "A fine chain for pi"),
        ("pi", "It should return a matrix"),
    ],
    "01.7": [
        ("k**N, (k - 1) + (N - 1) * k * (k - 1)", "the last of them is not free"),
        ("N**k - 1, (k - 1) + (N - 1) * k * (k - 1)", "How many values"),
        ("N * (k - 1), (k - 1) + (N - 1) * k * (k - 1)", "tables of single variables"),
        ("k**(N - 1) * (k - 1), (k - 1) + (N - 1) * k * (k - 1)", "or each row of it"),
        ("k**N - 1, k + (N - 1) * k * k", "the last of them is not free"),
        ("k**N - 1, (k - 1) + (N - 1) * k * k", "Does each row"),
        ("k**N - 1, (k - 1) + k * (k - 1)", "a matrix of its own"),
        ("k**N - 1, (N - 1) * k * (k - 1)", "The first variable"),
        ("k**N - 1, (k - 1) + N * k * (k - 1)", "fewer steps"),
        ("k**N - 1, (k - 1) + (N - 1) * (k**2 - 1)", "each of its rows"),
        ("k**N - 1, N * (k - 1)", "know nothing of each other"),
        ("k**N - 1, k + (N - 1) * k * (k - 1)", "is not free"),
        ("2**N - 1, 2 * N - 1", ""),
        ("k**N - 1", "It should return two things"),
    ],
    "01.8": [
        (
            "bool((P.matrix_power(1000) > 0).all()), bool((P.matrix_power(1000) > 0).all())",
            "leaves",
        ),
        (
            LATE + "; x = torch.allclose(late, later); return x, x",
            "two groups of states",
        ),
        (
            LATE + "; x = torch.allclose(late, late[:1].expand_as(late)); return x, x",
            "two groups of states",
        ),
        (
            LATE + "; return torch.allclose(late, P.matrix_power(1002)), "
            "torch.allclose(late, late[:1].expand_as(late))",
            "to and fro",
        ),
        (
            # only -1 is looked for
            """
            values = torch.linalg.eigvals(P)
            settles = not any(abs(value + 1) < 1e-6 for value in values)
            ones = sum(abs(value - 1) < 1e-6 for value in values)
            return settles, settles and bool(ones == 1)
            """,
            "round and round",
        ),
        (
            # one stationary distribution, of whatever period
            """
            values = torch.linalg.eigvals(P)
            ones = sum(abs(value - 1) < 1e-6 for value in values)
            return all(abs(v) < 1 - 1e-6 or abs(v - 1) < 1e-6 for v in values), bool(ones == 1)
            """,
            "`forgets` is True",
        ),
        ("bool((P > 0).all()), bool((P > 0).all())", ""),
        ("bool((P.diagonal() > 0).any()), bool((P.diagonal() > 0).any())", ""),
        ("True, True", "to and fro"),
        ("'yes', 'no'", "should be numbers, got str"),
        ("True", "It should return two things"),
        ("markov.settles(P), markov.forgets(P)", "It calls `settles`"),
    ],
}

RIGHT = {
    "01.1": [
        "sum(P[i, k] * P[k, j] for k in range(len(P)))",
        "sum(a * b for a, b in zip(P[i].tolist(), P[:, j].tolist()))",
        "np.dot(np.array(P.tolist())[i], np.array(P.tolist())[:, j])",
        "(P[i].numpy() * P[:, j].numpy()).sum()",
        "torch.einsum('k,k->', P[i], P[:, j])",
        "torch.inner(P[i], P.T[j])",
        "(P[i : i + 1] @ P[:, j : j + 1])",
        "(P[i] * P.mT[j]).sum().item()",
        "(P[i].float() * P[:, j].float()).sum()",
        "torch.stack([P[i, k] * P[k, j] for k in range(len(P))]).sum(0, keepdim=True)",
        """
        total = torch.tensor(0.0)
        for k in range(P.shape[0]):
            total += P[i][k] * P[k][j]
        return total
        """,
    ],
    "01.2": [
        "P.T @ before",
        "F.linear(before, P.T)",
        "(before[:, None] * P).sum(0)",
        "torch.einsum('i,ij->j', before, P)",
        "np.array(before) @ np.array(P)",
        "[sum(before[i] * P[i, j] for i in range(len(P))) for j in range(len(P))]",
        "torch.matmul(before[None], P)[0]",
        "(before @ P).float()",
        "[float(x) for x in before @ P]",
    ],
    "01.3": [
        "torch.tensor([b, a]) / (a + b)",
        "np.array([b, a]) / (a + b)",
        "[1 - a / (a + b), a / (a + b)]",
        "1 / (1 + a / b), 1 / (1 + b / a)",
        "torch.tensor([[1 - a, a], [b, 1 - b]], dtype=torch.float64).matrix_power(5000)[0]",
        "np.linalg.solve([[a, -b], [1, 1]], [0, 1])",
        "torch.tensor(b / (a + b)), torch.tensor([a / (a + b)])[0]",
    ],
    "01.4": [
        SOLVE + "return torch.linalg.solve(A, right)",
        SOLVE + "return torch.inverse(A) @ right",
        SOLVE + "return np.linalg.solve(A.numpy(), right.numpy())",
        SOLVE + "return torch.linalg.solve(A, right).tolist()",
        "A = torch.cat([P.T - torch.eye(len(P)), torch.ones(1, len(P))]).double()\n"
        "right = torch.tensor([0.0] * len(P) + [1.0]).double()\n"
        "return torch.linalg.lstsq(A, right[:, None]).solution[:, 0]",
        "A = P - torch.eye(len(P)); A[:, 0] = 1\n"
        "return torch.linalg.solve(A.T, torch.eye(len(P), dtype=P.dtype)[0])",
        # without a replaced row: pi (I - P + 1) = 1
        "torch.linalg.solve((torch.eye(len(P)) - P + 1).T, torch.ones(len(P), dtype=P.dtype))",
        SOLVE.replace("P.T", "P.float().T").replace("P.dtype", "torch.float32")
        + "return torch.linalg.solve(A, right)",
        # the last unknown is set to 1 first
        "A = (P.T - torch.eye(len(P), dtype=P.dtype))[:-1]\n"
        "x = torch.cat([torch.linalg.solve(A[:, :-1], -A[:, -1]), torch.ones(1)])\n"
        "return x / x.sum()",
    ],
    "01.5": [
        "(x := start * P.matrix_power(n)[:, j]) / x.sum()",
        "(x := start.numpy() * np.linalg.matrix_power(P.numpy(), n)[:, j]) / x.sum()",
        "[float(start[i] * P.matrix_power(n)[i, j] / (start @ P.matrix_power(n))[j])"
        " for i in range(len(P))]",
        """
        seen = torch.zeros(len(P), dtype=P.dtype)
        seen[j] = 1
        for _ in range(n):
            seen = P @ seen  # the probability of j at the end, from each state
        return start * seen / (start @ seen)
        """,
        """
        joint = torch.diag(start)
        for _ in range(n):
            joint = joint @ P
        return (joint / joint.sum(0))[:, j]
        """,
    ],
    "01.6": [
        metropolis("min(1, pi[j] / pi[i]) / (S - 1)"),
        metropolis("min(1, float(pi[j] / pi[i])) / (S - 1)", STAY).replace(
            "return P", "return P.tolist()"
        ),
        metropolis("torch.minimum(pi[i], pi[j]) / pi[i] / (S - 1)"),
        """
        p = np.array(pi)
        P = np.minimum(1, p[None] / p[:, None]) / (len(p) - 1)
        np.fill_diagonal(P, 0)
        np.fill_diagonal(P, 1 - P.sum(1))
        return P
        """,
        metropolis("torch.exp(torch.clamp(pi[j].log() - pi[i].log(), max=0)) / (S - 1)"),
        metropolis("min(1, pi[j] / pi[i]) / (S - 1)").replace("return P", "return P.float()"),
    ],
    "01.7": [
        "[k**N - 1, (k - 1) * (1 + (N - 1) * k)]",
        "torch.tensor([k**N - 1, k - 1 + (N - 1) * k * (k - 1)])",
        "np.array([k**N - 1, k - 1 + (N - 1) * (k * k - k)])",
        "math.pow(k, N) - 1, float(k - 1 + sum(k * (k - 1) for _ in range(N - 1)))",
        "sum((k - 1) * k**n for n in range(N)), k - 1 + sum(k * (k - 1) for _ in range(1, N))",
    ],
    "01.8": [
        """
        values = torch.linalg.eigvals(P)
        edge = [v for v in values if abs(abs(v) - 1) < 1e-6]
        settles = all(abs(v - 1) < 1e-6 for v in edge)
        return settles, settles and len(edge) == 1
        """,
        """
        values = np.linalg.eigvals(P.numpy())
        edge = values[np.abs(values) > 1 - 1e-6]
        settles = np.allclose(edge, 1)
        return np.array([settles, settles and len(edge) == 1])
        """,
        """
        p, q = np.linalg.matrix_power(P, 999), np.linalg.matrix_power(P, 1000)
        settles = np.abs(p - q).max() < 1e-5
        return settles, settles & bool((np.ptp(p, axis=0) < 1e-5).all())
        """,
        LATE + "; s = torch.allclose(late, later)\n"
        "return torch.tensor(s), s and (late.std(0) < 1e-6).all()",
        LATE + "; s = torch.allclose(late, later)\n"
        "return [int(s), int(s and torch.linalg.matrix_rank(late, tol=1e-6) == 1)]",
    ],
}
