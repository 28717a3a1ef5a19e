"""Messages to the webhook, in a thread of their own: an address that hangs holds up no queue and no log.

What is to be sent is in the store before it is sent, so that no message is lost; one whose answer was cut off
by a kill is sent again, and is told apart by its `alert_id`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from engine.server.monitoring.webhook_request import Delivered, send
from store.contract.addresses import AddressPolicy
from store.contract.home import Home
from store.db.database import Database
from store.documents.serving.monitor import WebhookDelivery
from store.queries import jobs, settings
from store.queries.monitoring import webhooks

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
WAITS = (10.0, 60.0, 300.0, 1_800.0, 7_200.0)  # before the second attempt, the third, …


class WebhookSender(threading.Thread):
    """Sends what is due until it is stopped. `post`: what sends one message."""

    def __init__(
        self,
        database: Database,
        home: Home,
        post: Callable[[str, str, str, float, AddressPolicy], Delivered] = send,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name="webhooks", daemon=True)
        self.database, self.home, self.post, self.clock = database, home, post, clock
        self._ended = threading.Event()

    def run(self) -> None:
        trouble = ""
        while not self._ended.wait(LOOK_SECONDS):
            try:
                self.step()
                trouble = ""
            except Exception as error:  # the border: one bad step must not end the thread
                if repr(error) != trouble:
                    log.exception("Messages to the webhook can't be sent; it is tried again.")
                trouble = repr(error)

    def step(self, now: float | None = None) -> int:
        """Send what is due; how many messages that were."""
        at = self.clock() if now is None else now
        due = webhooks.due(self.database, jobs.utc(at))
        for delivery in due:
            if self._ended.is_set():
                break
            self._deliver(delivery, at)
        return len(due)

    def stop(self) -> None:
        """End after the message that is under way, which is not waited for longer than a moment."""
        self._ended.set()
        self.join(1.0)

    def _deliver(self, delivery: WebhookDelivery, at: float) -> None:
        webhook = webhooks.webhook(self.database)
        if webhook is None:
            outcome = Delivered(None, "There is no webhook any more.")
        else:
            policy = settings.address_policy(self.database, self.home)
            secret = webhooks.secret(self.database)
            outcome = self.post(webhook["url"], secret, delivery["body"], at, policy)
        left = delivery["attempts"] < len(WAITS) and webhook is not None
        again = jobs.utc(at + WAITS[delivery["attempts"]]) if outcome.trouble and left else None
        if self._ended.is_set():
            return  # the store may be closed by now; the message goes again
        with self.database.transaction() as tx:
            webhooks.note_attempt(
                tx,
                delivery,
                status=outcome.status,
                trouble=outcome.trouble,
                next_at=again,
                at=jobs.utc(at),
            )
