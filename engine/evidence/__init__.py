"""What base and tuned model of a run make of rows, gathered for its verdict. What it means is decided in
`diagnostics`.
"""
