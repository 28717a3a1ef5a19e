"""Jobs from the queue to what is kept of them: orders for workers, their endings, the jobs that follow."""
