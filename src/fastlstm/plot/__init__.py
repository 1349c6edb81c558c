"""Pictures of a layer: what its gates did over time, and which tensor has which shape. Needs matplotlib.

    from fastlstm import plot
    plot.trace(lstm.trace(x)).savefig("trace.png")
    plot.shapes(lstm, x).savefig("shapes.png")

Both return a Figure of its own canvas: pyplot is not used, so they work without a screen and from any thread.
"""

try:
    from fastlstm.plot.gates import trace
    from fastlstm.plot.unrolled import shapes
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "matplotlib":
        raise
    raise ImportError('fastlstm.plot needs matplotlib: pip install ".[plot]" in the folder of fastlstm') from error

__all__ = ["shapes", "trace"]
