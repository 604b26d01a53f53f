"""Masks drawn at construction, and matrices that store only what such a mask keeps."""

import torch
from torch import Tensor


def random_mask(weight: Tensor, density: float) -> Tensor:
    """A mask of exactly round(density * size) entries, wherever they fall."""
    kept = round(density * weight.numel())
    mask = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
    mask[torch.randperm(weight.numel(), device=weight.device)[:kept]] = True
    return mask.view_as(weight)


def fan_in_mask(weight: Tensor, kept: int) -> Tensor:
    """A mask of the same number of inputs for every unit, each chosen by itself."""
    rows = weight.flatten(1)
    chosen = torch.rand(rows.shape, device=weight.device).topk(kept, dim=1).indices
    mask = torch.zeros(rows.shape, dtype=torch.bool, device=weight.device)
    return mask.scatter(1, chosen, True).view_as(weight)


def blocks_mask(weight: Tensor, kept: int, block: int) -> Tensor:
    """A mask of square blocks: the same number of them in every row of blocks."""
    rows, columns = (n // block for n in weight.shape)
    coarse = fan_in_mask(weight.new_empty(rows, columns), kept)
    return coarse.repeat_interleave(block, 0).repeat_interleave(block, 1)


def n_of_m_mask(weight: Tensor, n: int, m: int) -> Tensor:
    """A mask of the n largest of every m neighbouring inputs of a unit."""
    groups = weight.abs().reshape(-1, m)
    mask = torch.zeros(groups.shape, dtype=torch.bool, device=weight.device)
    return mask.scatter(1, groups.topk(n, dim=1).indices, True).view_as(weight)


def compressed_rows(weight: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What a mask keeps of a matrix: the values, where each row ends, and the column of each value."""
    ends = torch.cat([mask.new_zeros(1, dtype=torch.int32), mask.sum(1, dtype=torch.int32)])
    return weight[mask], ends.cumsum(0, dtype=torch.int32), mask.nonzero()[:, 1].to(torch.int32)


def random_rows(weight: Tensor, density: float) -> tuple[Tensor, Tensor, Tensor]:
    """The compressed rows of a random mask."""
    return compressed_rows(weight, random_mask(weight, density))


def fan_in_rows(weight: Tensor, kept: int) -> tuple[Tensor, Tensor, Tensor]:
    """The compressed rows of a mask with the same number of inputs for every unit."""
    return compressed_rows(weight, fan_in_mask(weight, kept))


def dense_rows(values: Tensor, ends: Tensor, columns: Tensor, inputs: int) -> Tensor:
    """The matrix whose compressed rows these are."""
    units, count = ends.shape[0] - 1, values.shape[0]
    ones = torch.ones_like(ends[1:])
    row = ends.new_zeros(count + 1).scatter_add(0, ends[1:].long(), ones).cumsum(0)[:count]
    matrix = values.new_zeros(units * inputs)
    return matrix.scatter(0, row * inputs + columns, values).view(units, inputs)


def _matrix(x: Tensor, values: Tensor, ends: Tensor, columns: Tensor) -> Tensor:
    """The matrix that multiplies x, in torch's format of compressed rows."""
    size = (len(ends) - 1, x.shape[1])
    return torch.sparse_csr_tensor(ends, columns, values, size, check_invariants=False)


class _SparseLinear(torch.autograd.Function):
    """x W^T for a matrix in compressed rows; its gradient is computed at the kept entries alone."""

    @staticmethod
    def forward(x: Tensor, values: Tensor, ends: Tensor, columns: Tensor) -> Tensor:
        return (_matrix(x, values, ends, columns) @ x.t()).t()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        x, matrix = ctx.saved_tensors[0], _matrix(*ctx.saved_tensors)
        of_x = (matrix.t() @ gradient.t()).t() if ctx.needs_input_grad[0] else None
        of_values = None
        if ctx.needs_input_grad[1]:
            of_values = torch.sparse.sampled_addmm(matrix, gradient.t(), x, beta=0.0).values()
        return of_x, of_values, None, None


def sparse_linear(
    x: Tensor, values: Tensor, ends: Tensor, columns: Tensor, bias: Tensor | None = None
) -> Tensor:
    """`F.linear` with a matrix in compressed rows; in mixed precision too in that of the values."""
    rows = x.reshape(-1, x.shape[-1]).to(values.dtype)
    with torch.autocast(x.device.type, enabled=False):
        y = _SparseLinear.apply(rows, values, ends, columns)
    return (y if bias is None else y + bias).view(*x.shape[:-1], -1)


def block_columns(mask: Tensor) -> Tensor:
    """Which blocks of each row of blocks a coarse mask keeps."""
    return mask.nonzero()[:, 1].view(mask.shape[0], -1)


def random_blocks(weight: Tensor, kept: int, block: int) -> tuple[Tensor, Tensor]:
    """The blocks that a random mask keeps, [rows of blocks, kept, block, block], and their columns."""
    rows, columns = (n // block for n in weight.shape)
    chosen = block_columns(fan_in_mask(weight.new_empty(rows, columns), kept))
    blocks = weight.view(rows, block, columns, block).transpose(1, 2)
    return blocks[torch.arange(rows, device=weight.device)[:, None], chosen], chosen


def dense_blocks(blocks: Tensor, columns: Tensor, inputs: int) -> Tensor:
    """The matrix of which these are the blocks."""
    rows, _, block, _ = blocks.shape
    index = columns[:, :, None, None].expand_as(blocks)
    matrix = blocks.new_zeros(rows, inputs // block, block, block).scatter(1, index, blocks)
    return matrix.transpose(1, 2).reshape(rows * block, inputs)


def block_linear(x: Tensor, blocks: Tensor, columns: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` with a matrix of blocks: each row of blocks multiplies the inputs that it reads."""
    rows, kept, block, _ = blocks.shape
    x = x.to(blocks.dtype)
    parts = x.unflatten(-1, (-1, block)).reshape(-1, x.shape[-1] // block, block)
    read = parts.index_select(1, columns.flatten()).unflatten(1, (rows, kept))
    y = torch.einsum("nrkj,rkij->nri", read, blocks).flatten(1)
    return (y if bias is None else y + bias).view(*x.shape[:-1], -1)
