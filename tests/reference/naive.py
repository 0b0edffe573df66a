"""
Each attention in the few lines of its formula, in loops and in float64 if its inputs are: the specification.

Nothing here is fast, folded, batched or shared between variants, and nothing is imported from the package. Shapes
carry no batch: x [N, W] is one row with its padding, `valid` [N] its real tokens, weights are those of `nn.Linear`.
"""

import torch


def softmax_attention(q, k, v, seen, over=None):
    """
    h_i = sum_j softmax_j(q_i . k_j / sqrt(D)) v_j over the keys that query i sees; q [N, D], k and v [M, D]. A model
    may divide by something else, `over`.
    """
    logits = q @ k.T / (over or q.shape[-1] ** 0.5)
    return torch.softmax(logits.masked_fill(~seen, -torch.inf), dim=-1) @ v


def elu_plus_one(x):
    """elu(x) + 1."""
    return torch.where(x > 0, x + 1, torch.exp(x.clamp(max=0)))


def linear_attention(q, k, v, phi):
    """h_i = sum_j Phi(q_i) . Phi(k_j) v_j / sum_j Phi(q_i) . Phi(k_j); 0 for a query whose products are all 0."""
    products = phi(q) @ phi(k).T
    total = products.sum(-1, keepdim=True)
    return products / torch.where(total > 0, total, 1) @ v


def batch_normalize(q, k, kept, beta, scaling, eps):
    """
    T(x) = (x - beta mu) / sqrt(var + eps) of queries and keys, by the keys' statistics (Definition 1); `scaling`
    is the power of the deviation.
    """
    mu = k[kept].mean(0)
    deviation = ((k[kept] - mu).square().mean(0) + eps) ** (scaling / 2)
    return (q - beta * mu) / deviation, (k - beta * mu) / deviation


def query_attention(q, k, v, statistics=None, is_causal=True, over=None):
    """
    One query [D] on its own points [M, D], normalized by their statistics: beta, the power of the deviation, and eps.
    In causal attention that power grows with their number, and is whole from 33 on.
    """
    q, kept = q.unsqueeze(0), torch.ones(len(k), dtype=torch.bool)
    if statistics is not None:
        beta, scaling, eps = statistics
        q, k = batch_normalize(q, k, kept, beta, scaling * min((len(k) - 1) / 32, 1) if is_causal else scaling, eps)
    return softmax_attention(q, k, v, kept, over)[0]


def causal_points(x, first, last, scale):
    """Averages of the windows from `first` on that are complete before that of `last`, and the keys of its own."""
    own = first + (last - first) // scale * scale
    averages = [x[start : start + scale].mean(0) for start in range(first, own, scale)]
    return torch.stack([*averages, *x[own : last + 1]])


def interval_attention(q, k, v, first, last, scale=1, statistics=None, is_causal=True, over=None):
    """Query i [N, D] on the keys from first[i] to last[i], or on their windows' averages; k and v [M, D]."""
    rows = []
    for i, (a, b) in enumerate(zip(first, last, strict=True)):
        points = [causal_points(x, a, b, scale) if scale > 1 else x[a : b + 1] for x in (k, v)]
        rows.append(query_attention(q[i], *points, statistics, is_causal, over))
    return torch.stack(rows)


def causal_linear_attention(q, k, v, phi, scale=1, statistics=None):
    """
    Query i [N, D] over its points: each is normalized by the statistics of what was seen at its own place, a window's
    average by those of the averages up to it.
    """

    def normalized(x, points):
        if statistics is None:
            return x
        beta, scaling, eps = statistics
        kept = torch.ones(len(points), dtype=torch.bool)
        power = scaling * min((len(points) - 1) / 32, 1)
        return batch_normalize(x.unsqueeze(0), points, kept, beta, power, eps)[0][0]

    averages = [k[c : c + scale].mean(0) for c in range(0, len(k) - scale + 1, scale)]
    rows, keys = [], []
    for i in range(len(q)):
        points = causal_points(k, 0, i, scale)
        keys.append(normalized(k[i], points))
        before = [normalized(averages[c], torch.stack(averages[: c + 1])) for c in range(i // scale)]
        seen = torch.stack([*before, *keys[i // scale * scale :]])
        values = causal_points(v, 0, i, scale)
        rows.append(linear_attention(normalized(q[i], points).unsqueeze(0), seen, values, phi)[0])
    return torch.stack(rows)


def convolve_sequence(x, valid, filters):
    """y_i(d) = sum_t filters(d, t) x_(i + t - T // 2)(d), with zeros past both ends and in the place of padding."""
    size = filters.shape[1]
    end = torch.zeros_like(x[:1]).expand(size // 2, -1)
    padded = torch.cat((end, torch.where(valid.unsqueeze(-1), x, 0), end))
    return sum(filters[:, t] * padded[t : t + len(x)] for t in range(size))


def convolve_map(maps, filters):
    """Two-dimensional convolution of maps [..., H, W] by a filter [..., K, K], with zeros past the edges."""
    height, width = maps.shape[-2:]
    size = filters.shape[-1]
    padded = maps.new_zeros(*maps.shape[:-2], height + size - 1, width + size - 1)
    padded[..., size // 2 : size // 2 + height, size // 2 : size // 2 + width] = maps
    return sum(
        filters[..., a, b, None, None] * padded[..., a : a + height, b : b + width]
        for a in range(size)
        for b in range(size)
    )


def convolve_vectors(x, filters):
    """Each vector as the most square map of its size, convolved with one filter [K, K] (Definition 3)."""
    height = max(side for side in range(1, int(x.shape[-1] ** 0.5) + 1) if x.shape[-1] % side == 0)
    return convolve_map(x.reshape(len(x), height, -1), filters).flatten(1)


def convolve_grid(x, valid, filters, grid_size, prefix):
    """The tokens after the prefix as a grid of patches, each channel convolved with its filter [D, K, K]."""
    x = torch.where(valid.unsqueeze(-1), x, 0)
    grid = torch.stack([channel.reshape(grid_size) for channel in x[prefix:].T])
    return torch.cat((x[:prefix], convolve_map(grid, filters).flatten(1).T))


def windows_by_scale(valid, scale):
    """The valid tokens of each window of `scale` tokens, perhaps none (Definition 2)."""
    valid = valid.tolist()
    starts = range(0, len(valid), scale)
    return [[i for i in range(start, min(start + scale, len(valid))) if valid[i]] for start in starts]


def windows_by_points(valid, points):
    """Those of the row up to its last valid token, cut into `points` parts as numpy.array_split does."""
    tokens = torch.arange(1 + max(valid.nonzero().flatten().tolist(), default=-1))
    return [[i for i in part.tolist() if valid[i]] for part in torch.tensor_split(tokens, points)]


def grid_windows(valid, grid_size, rows, columns):
    """The valid tokens in each rectangle of some rows and some columns of the grid, row by row."""
    valid = valid.tolist()
    return [[i for r in rs for c in cs if valid[i := r * grid_size[1] + c]] for rs in rows for cs in columns]


def grid_windows_by_scale(valid, grid_size, scale):
    """Windows of `scale` x `scale` tokens, ragged ones at the right and at the bottom."""
    axes = [[range(a, min(a + scale, length)) for a in range(0, length, scale)] for length in grid_size]
    return grid_windows(valid, grid_size, *axes)


def grid_windows_by_points(valid, grid_size, points):
    """At most `points` rectangles, as square as they can be, cut as numpy.array_split does."""
    height, width = grid_size
    down = min(max(round((points * height / width) ** 0.5), 1), height, points)
    parts = (down, min(points // down, width)) if points < height * width else grid_size
    axes = [
        [cut.tolist() for cut in torch.tensor_split(torch.arange(length), count)]
        for length, count in zip(grid_size, parts, strict=True)
    ]
    return grid_windows(valid, grid_size, *axes)


def pseudo_random(place, seed):
    """The hash of a window's place and the seed, by which a token is drawn."""
    mixed = ((place + 1) * 2654435761 + seed * 40503 + 97) % 2**32
    for _ in range(2):
        mixed = ((mixed ^ (mixed >> 16)) * 73244475) % 2**32
    return mixed ^ (mixed >> 16)


def sample(x, windows, sampling="average", seed=0, filters=None, within=None):
    """
    The point of each window: zeros, and not kept, for a window without a valid token. `within` holds each token's
    place in its window.
    """
    points = []
    for place, window in enumerate(windows):
        if not window:
            points.append(x.new_zeros(x.shape[1]))
        elif sampling == "average":
            points.append(x[window].mean(0))
        elif sampling == "stride":
            points.append(x[window[0]])
        elif sampling == "random":
            points.append(x[window[pseudo_random(place, seed) % len(window)]])
        else:
            # A filter of length one is none; tokens that lack are made up for by those that are there.
            scale = 1 if filters is None else len(filters)
            total = sum((1 if filters is None else filters[within[i]]) * x[i] for i in window)
            points.append(total * scale / len(window))
    kept = torch.tensor([len(window) > 0 for window in windows], dtype=torch.bool)
    return torch.stack(points) if points else x[:0], kept


def sees(parts, window, stride, size, places, keys):
    """
    Which keys each query sees [N, M], the union of `parts` (Child et al., 2019, without causality). `places` holds the
    key that stands for each query, its own or that of the window of `size` tokens that holds it; the reach, given in
    tokens, is rounded down to whole keys.
    """
    half, stride = window // 2 // size, max(stride // size, 1)
    p, j = torch.tensor(places).unsqueeze(-1), torch.arange(keys)
    seen = torch.zeros(len(places), keys, dtype=torch.bool)
    if "local" in parts:
        seen |= (j >= p - half) & (j <= p + half)
    if "strided" in parts:
        seen |= p % stride == j % stride
    if "fixed" in parts:
        seen |= (p // stride == j // stride) | (j % stride == stride - 1)
    return seen


def transform(name, arguments, q, k, valid, kept, head, rows):
    """One transform T of a head's queries and keys; `arguments` are those of the formula, for all heads."""
    if name == "bn":
        betas, scalings, eps = arguments
        return batch_normalize(q, k, kept, betas[head], scalings[head], eps)
    if name == "conv1d":
        (filters,) = arguments
        return convolve_sequence(q, valid, filters[rows]), convolve_sequence(k, kept, filters[rows])
    if name == "conv2d":
        (filters,) = arguments
        return convolve_vectors(q, filters[head]), convolve_vectors(k, filters[head])
    filters, *shape = arguments
    return convolve_grid(q, valid, filters[rows], *shape), convolve_grid(k, kept, filters[rows], *shape)


def downsampled(x, valid, scale, points, prefix, grid_size, how):
    """
    The points that a head is fitted on, which of them count, which one stands for each token, and how many tokens a
    whole window holds. The first `prefix` tokens are points of their own.
    """
    if scale is None and points is None:
        return x, valid, list(range(len(x))), 1
    rest, count = valid[prefix:], len(x) - prefix
    if grid_size is None:
        windows = windows_by_scale(rest, scale) if points is None else windows_by_points(rest, points)
        size, within, window_of = (scale or 1), [t % (scale or 1) for t in range(count)], lambda t: t // (scale or 1)
    else:
        width, side = grid_size[1], scale or 1
        if points is not None:
            windows = grid_windows_by_points(rest, grid_size, points)
        else:
            windows = grid_windows_by_scale(rest, grid_size, scale)
        size = min(side, max(grid_size)) ** 2
        within = [t // width % side * side + t % width % side for t in range(count)]
        window_of = lambda t: t // width // side * -(-width // side) + t % width // side  # noqa: E731
    pooled, kept = sample(x[prefix:], windows, within=within, **{**how, "filters": how["filters"].get(scale)})
    places = [*range(prefix), *(prefix + window_of(t) for t in range(count))]
    return torch.cat((x[:prefix], pooled)), torch.cat((valid[:prefix], kept)), places, size


def attention_row(
    x,
    valid,
    weights,
    num_heads,
    transforms=(),
    phi=None,
    scales=None,
    points=None,
    sampling=None,
    pattern=None,
    prefix=0,
    grid_size=None,
):
    """
    One row of the layer. `weights` maps q, k, v, o to (weight, bias); `transforms` is a chain of (name, arguments);
    `phi` is the feature map of the linear kernel, or None for softmax; `scales` or `points` hold one entry per head,
    or are None for all tokens; `sampling` holds what `sample` is told, its filters by scale; `pattern` is (parts,
    window, stride) or None; the tokens after the first `prefix` lie on a grid, or in a sequence.
    """
    dim = x.shape[-1] // num_heads
    heads = []
    for h in range(num_heads):
        rows = slice(h * dim, (h + 1) * dim)
        scale, number = (each if each is None else each[h] for each in (scales, points))
        seen_points, kept, places, size = downsampled(x, valid, scale, number, prefix, grid_size, sampling)
        q = x @ weights["q"][0][rows].T + weights["q"][1][rows]
        k = seen_points @ weights["k"][0][rows].T + weights["k"][1][rows]
        v = seen_points @ weights["v"][0][rows].T + weights["v"][1][rows]
        for name, arguments in transforms:
            q, k = transform(name, arguments, q, k, valid, kept, h, rows)
        if phi is not None:
            heads.append(linear_attention(q, k[kept], v[kept], phi))
            continue
        seen = torch.ones(len(q), len(k), dtype=torch.bool)
        if pattern is not None:
            seen = sees(*pattern, size, places, len(k))
        # What a query in the padding puts out does not count, and need not be defined by keys that are all padding.
        seen = seen | ~valid.unsqueeze(-1)
        heads.append(softmax_attention(q, k[kept], v[kept], seen[:, kept]))
    return torch.cat(heads, dim=-1) @ weights["o"][0].T + weights["o"][1]


def attention_layer(x, mask, weights, num_heads, prefix=0, grid_size=None, **choices):
    """
    The layer on a batch x [B, N, W] with mask [B, N] or None, row by row. What precedes a sequence's first real token
    counts as if it stood behind its last.
    """
    if mask is None:
        mask = torch.ones(x.shape[:2], dtype=torch.bool)

    def turn(row, start):
        return torch.cat((row[:prefix], row[prefix:].roll(-start, 0)))

    outputs = []
    for row, valid in zip(x, mask, strict=True):
        real = valid[prefix:].nonzero().flatten().tolist()
        start = real[0] if real and grid_size is None else 0
        layout = {"prefix": prefix, "grid_size": grid_size}
        output = attention_row(turn(row, start), turn(valid, start), weights, num_heads, **layout, **choices)
        outputs.append(turn(output, -start))
    return torch.stack(outputs)
