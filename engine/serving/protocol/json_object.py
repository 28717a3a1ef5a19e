"""Objects of OpenAI's protocol, as they come and go. Their fields are the protocol's and each server's own,
and new ones come with every version: what is needed is read by name, all else is passed on as it came."""

from __future__ import annotations

from typing import Any

JsonObject = dict[str, Any]
