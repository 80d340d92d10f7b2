"""Clips of annotated recordings fetched politely, cut exactly, with an account of every one of them."""

from descant.data.download.fetch import STATUSES
from descant.data.download.ledger import Ledger, LedgerEntry
from descant.data.download.run import DownloadSettings, Summary, download_clips

__all__ = ["STATUSES", "DownloadSettings", "Ledger", "LedgerEntry", "Summary", "download_clips"]
