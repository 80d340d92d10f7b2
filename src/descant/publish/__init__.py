"""Model folders on the Hub: their card, their licence, their code, one commit."""

from descant.hub_client import PublishError
from descant.publish.card import write_card
from descant.publish.hub import check_push, publish_folder

__all__ = ["PublishError", "check_push", "publish_folder", "write_card"]
