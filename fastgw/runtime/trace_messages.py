"""What the supervisor and the process that exports traces say to each other, as tuples that begin with one of these.

    supervisor → exporter                        exporter → supervisor
    (SETTINGS, TraceExport), any number of times (COUNTS, exported, lost) since the last time
    (END,)                                       (EVENT, outcome, detail)

The socket that the workers' records come from travels beside the first SETTINGS.
"""

from __future__ import annotations

SETTINGS = "settings"
END = "end"
COUNTS = "counts"
EVENT = "event"
