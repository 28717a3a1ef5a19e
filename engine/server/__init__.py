"""The engine process: commands, the queue, and what a finished job brings into the store. It never imports
torch; what needs a model or a tokenizer is a job.
"""
