"""Scans with their masks, as a user names them: files, folders, tables, and simulated people."""

from lesioncore.subjects.distinct import check_distinct, same_scan
from lesioncore.subjects.sources import find_subjects
from lesioncore.subjects.subject import FileSubject, Loaded, PhantomSubject, Subject, source_hash

__all__ = [
    "FileSubject",
    "Loaded",
    "PhantomSubject",
    "Subject",
    "check_distinct",
    "find_subjects",
    "same_scan",
    "source_hash",
]
