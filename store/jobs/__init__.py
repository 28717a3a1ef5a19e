"""Jobs and their events: the queue, orders, points that are taken in."""
