"""The torch functions of constraints: run as they stand, and written into emitted modules as text.

Each file needs torch only, and holds plain functions and autograd functions, each with a docstring. A
function may call others of its own file. `start` functions run under `torch.no_grad`.
"""
