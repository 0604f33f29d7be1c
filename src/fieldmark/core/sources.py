"""predictions/sources.json: which data each name among a run's predictions stands for."""

from __future__ import annotations

from fieldmark.core.record import RecordFile


class Sources(RecordFile):
    """By name, the data other than the run's own that were predicted: an absolute path, or what was typed of data that have none."""

    sources: dict[str, str]
