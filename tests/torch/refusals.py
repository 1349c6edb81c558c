"""What the errors of a wrong call are held to, whichever layer's: beside torch's own, and where torch has no good one."""

import re
from collections.abc import Callable

from torch import nn

Complaint = Callable[
    [type[nn.Module], str], tuple[type[BaseException] | None, str]
]  # of a layer, in the case of a name


def hold_as_torch(complaint: Complaint, ours: type[nn.Module], name: str) -> None:
    """Torch's type, and its message up front."""
    theirs = getattr(nn, ours.__name__)
    kind, message = complaint(ours, name)
    their_kind, their_message = complaint(theirs, name)
    assert their_kind is not None, f"nn.{ours.__name__} takes this now"
    assert kind is their_kind, message
    assert message.startswith(their_message), f"{message!r} does not start with {their_message!r}"


def hold_clear(
    complaint: Complaint, ours: type[nn.Module], name: str, expected: type[Exception], words: list[str]
) -> None:
    """Such an error, which holds these words and none of a kernel's."""
    kind, message = complaint(ours, name)
    assert kind is not None, "accepted"
    assert issubclass(kind, expected), (kind, message)
    for word in words:
        assert word in message, f"{word!r} is not in {message!r}"
    assert not re.search(r"mat1|broadcast|primitive|mkldnn|out of range|INDICES", message), message
