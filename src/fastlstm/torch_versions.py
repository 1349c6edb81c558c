"""Which versions of PyTorch the layers take."""

# 2.7 lacks a name that every call asks (`torch/context.py`). The extra `torch` of pyproject.toml asks for more, what is
# tested: in 2.8 to 2.10 torch.compile(fullgraph=True) refused a layer.
OLDEST = "2.8"


def refuse_older() -> None:
    """ImportError: the torch that is installed is older. Asked before anything else of torch, which may lack it."""
    import torch

    if torch.__version__ < OLDEST:  # torch's own kind of string: 2.10 is later than 2.8
        raise ImportError(
            f"fastlstm needs PyTorch {OLDEST} or later, and this is {torch.__version__}: pip install -U torch"
        )
