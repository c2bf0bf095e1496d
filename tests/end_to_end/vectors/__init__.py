"""Raw HTTP, and what must become of it.

The outcomes follow from RFC 9110, RFC 9112 and RFC 3986, and where these leave a choice, from the rule that nothing is
forwarded that two parsers could read differently. `outcome` tells how to read the tables.
"""

from tests.end_to_end.vectors.answers import ANSWERS
from tests.end_to_end.vectors.chunks import CHUNKS
from tests.end_to_end.vectors.framing import FRAMING
from tests.end_to_end.vectors.hops import HOPS
from tests.end_to_end.vectors.sequences import SEQUENCES
from tests.end_to_end.vectors.syntax import SYNTAX
from tests.end_to_end.vectors.targets import TARGETS

REQUESTS = [*FRAMING, *CHUNKS, *SYNTAX, *TARGETS, *HOPS, *SEQUENCES]

__all__ = ["ANSWERS", "REQUESTS"]
