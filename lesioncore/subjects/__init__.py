"""Scans with their masks, as a user names them: files, folders, tables, and simulated people."""

from lesioncore.subjects.sources import find_subjects
from lesioncore.subjects.subject import FileSubject, Loaded, PhantomSubject, Subject, source_hash

__all__ = ["FileSubject", "Loaded", "PhantomSubject", "Subject", "find_subjects", "source_hash"]
